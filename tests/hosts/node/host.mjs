// A host in another language: Node 18 or newer, no packages, nothing of Lorakeet's own code.
//
//   node host.mjs [--files FILES.json] [--scenario NAME]... [--image FILE --model FOLDER] [-- COMMAND...]
//
// It knows the kernel from committed documents alone: contract/schema/openrpc.json, and the transcripts in
// tests/golden/scenarios with the rules in tests/golden/README.md. README.md beside this file says more.

import { spawn, spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const SCENARIOS = join(ROOT, "tests", "golden", "scenarios");
const WAIT_MS = 30_000;
const STDERR_KEPT = 64 * 1024;
const LOSSY = new Set(["progress", "log"]);

const openrpc = JSON.parse(readFileSync(join(ROOT, "contract", "schema", "openrpc.json"), "utf8"));
const methods = new Map(openrpc.methods.map((method) => [method.name, method]));

// --- The process ------------------------------------------------------------------------------------------

class Kernel {
  constructor(command) {
    // A process group of its own, so that the kernel and all its children can be ended together.
    this.child = spawn(command[0], command.slice(1), { detached: process.platform !== "win32" });
    this.messages = [];
    this.waiting = null;
    this.ended = false;
    this.stderr = "";
    this.exit = new Promise((resolve) => this.child.on("close", (code, signal) => resolve(code ?? signal)));
    this.child.on("error", (error) => this.#end(error));
    this.child.stdin.on("error", () => {}); // a kernel that has left; its exit code says so
    this.child.stderr.setEncoding("utf8");
    this.child.stderr.on("data", (text) => (this.stderr = (this.stderr + text).slice(-STDERR_KEPT)));
    this.#readLines();
  }

  #readLines() {
    let pieces = [];
    this.child.stdout.on("data", (chunk) => {
      for (let end; (end = chunk.indexOf(10)) >= 0; chunk = chunk.subarray(end + 1)) {
        this.#take(Buffer.concat([...pieces, chunk.subarray(0, end)]).toString("utf8"));
        pieces = [];
      }
      if (chunk.length) pieces.push(chunk);
    });
    this.child.stdout.on("end", () => this.#end());
  }

  #take(line) {
    this.messages.push(line);
    this.#wake();
  }

  #end(error) {
    this.ended = error ?? true;
    this.#wake();
  }

  #wake() {
    this.waiting?.();
    this.waiting = null;
  }

  /** Writes text; resolves when the pipe takes more, so that a slow kernel slows the host down. */
  async write(text) {
    if (this.child.stdin.write(text)) return;
    await bounded(new Promise((resolve) => this.child.stdin.once("drain", resolve)), "the kernel to read");
  }

  send(message) {
    return this.write(JSON.stringify(message) + "\n");
  }

  /** The next message; undefined once stdout has ended. */
  async receive() {
    while (!this.messages.length && !this.ended) {
      await bounded(new Promise((resolve) => (this.waiting = resolve)), "a message");
    }
    if (this.messages.length) return JSON.parse(this.messages.shift());
    if (this.ended instanceof Error) throw this.ended;
    return undefined;
  }

  kill() {
    if (this.child.exitCode !== null || this.child.signalCode !== null || !this.child.pid) return;
    if (process.platform === "win32") this.child.kill("SIGKILL");
    else process.kill(-this.child.pid, "SIGKILL");
  }
}

function bounded(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${WAIT_MS} ms for ${what}`)), WAIT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function withKernel(command, work) {
  const kernel = new Kernel(command);
  try {
    return await work(kernel);
  } catch (error) {
    error.message += `\n${kernel.stderr}`;
    throw error;
  } finally {
    kernel.kill();
  }
}

// --- JSON Schema, as much of it as the contract uses ------------------------------------------------------

const TYPES = {
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  array: Array.isArray,
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number",
  integer: Number.isInteger,
  boolean: (value) => typeof value === "boolean",
  null: (value) => value === null,
};

/** What of `value` does not fit `schema`, as a list of texts. */
function misfits(value, schema, path = "$") {
  if (schema.$ref) {
    const { $ref, ...beside } = schema;
    const target = openrpc.components.schemas[$ref.split("/").at(-1)];
    return [...misfits(value, target, path), ...misfits(value, beside, path)];
  }
  const found = [];
  const say = (text) => found.push(`${path}: ${text}`);
  if (schema.type && ![schema.type].flat().some((type) => TYPES[type](value))) {
    return [`${path}: ${JSON.stringify(value)} is no ${schema.type}`];
  }
  if (schema.enum && !schema.enum.includes(value)) say(`${JSON.stringify(value)} is not in ${schema.enum}`);
  if (schema.anyOf) {
    const arms = schema.anyOf.map((arm) => misfits(value, arm, path));
    if (!arms.some((arm) => arm.length === 0)) found.push(...arms.sort((a, b) => a.length - b.length)[0]);
  }
  if (value < schema.minimum) say(`${value} is below ${schema.minimum}`);
  if (value > schema.maximum) say(`${value} is above ${schema.maximum}`);
  if (schema.pattern && typeof value === "string" && !new RegExp(schema.pattern, "u").test(value)) {
    say(`${JSON.stringify(value)} does not match ${schema.pattern}`);
  }
  if (Array.isArray(value) && schema.items) {
    value.forEach((item, index) => found.push(...misfits(item, schema.items, `${path}[${index}]`)));
  } else if (TYPES.object(value)) {
    found.push(...memberMisfits(value, schema, path));
  }
  return found;
}

function memberMisfits(value, schema, path) {
  const found = (schema.required ?? [])
    .filter((name) => !(name in value))
    .map((name) => `${path}.${name}: missing`);
  for (const [name, member] of Object.entries(value)) {
    const own = schema.properties?.[name] ?? schema.additionalProperties ?? {};
    if (own === false) found.push(`${path}.${name}: not expected`);
    else if (own !== true) found.push(...misfits(member, own, `${path}.${name}`));
  }
  return found;
}

/** What of a message breaks the contract, whatever a transcript says. */
function breaches(message, request) {
  if (message.jsonrpc !== "2.0") return [`no JSON-RPC 2.0: ${JSON.stringify(message)}`];
  if (message.method !== undefined) {
    const notification = openrpc["x-notifications"][message.method];
    return notification
      ? misfits(message.params, notification.params, message.method)
      : [`unknown notification ${message.method}`];
  }
  if (message.error) return misfits(message.error, { $ref: "#/components/schemas/WireError" }, "error");
  const method = methods.get(request?.method);
  return method?.result ? misfits(message.result, method.result.schema, `${method.name} result`) : [];
}

// --- Transcripts ------------------------------------------------------------------------------------------

function render(value, variables) {
  if (typeof value === "string") return value.replace(/\$\{(\w+)\}/g, (_, name) => variables[name]);
  if (Array.isArray(value)) return value.map((item) => render(item, variables));
  if (!TYPES.object(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, render(item, variables)]));
}

const PLACEHOLDERS = {
  $any: () => true,
  $int: Number.isInteger,
  $float: (value) => typeof value === "number",
  $string: (value) => typeof value === "string",
};

/** What of `actual` is not as `expected`. Members that were not expected are ignored, as hosts do. */
function differences(expected, actual, bound, path = "") {
  const wrong = [`${path}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`];
  if (typeof expected === "string" && expected in PLACEHOLDERS) return PLACEHOLDERS[expected](actual) ? [] : wrong;
  if (typeof expected === "string" && expected.startsWith("$id:")) {
    if (!bound.has(expected)) bound.set(expected, actual);
    return typeof actual === "string" && bound.get(expected) === actual ? [] : wrong;
  }
  if (Array.isArray(expected) && Array.isArray(actual)) {
    if (expected.length !== actual.length) return wrong;
    return expected.flatMap((item, index) => differences(item, actual[index], bound, `${path}[${index}]`));
  }
  if (TYPES.object(expected) && TYPES.object(actual)) {
    return Object.entries(expected).flatMap(([name, item]) =>
      name in actual ? differences(item, actual[name], bound, `${path}.${name}`) : [`${path}.${name}: missing`],
    );
  }
  return Object.is(expected, actual) ? [] : wrong;
}

/** Neighbouring `partial`s as one. */
function joined(messages) {
  const result = [];
  for (const message of messages) {
    const last = result.at(-1);
    if (message.method !== "partial" || last?.method !== "partial") {
      result.push(structuredClone(message));
      continue;
    }
    for (const name of ["items", "failed"]) last.params[name].push(...message.params[name]);
    last.params.seq = message.params.seq;
  }
  return result;
}

/** A map whose missing values are new lists. */
class Lists extends Map {
  of(key) {
    if (!this.has(key)) this.set(key, []);
    return this.get(key);
  }
}

class Player {
  constructor(kernel) {
    this.kernel = kernel;
    this.problems = [];
    this.requests = new Map();
    this.responses = new Lists();
    this.said = new Lists(); // by job
    this.expected = new Lists(); // by job
    this.seqs = new Map();
    this.states = 0;
    this.bound = new Map();
  }

  async play(line, variables) {
    const [[action, raw]] = Object.entries(line);
    const value = render(raw, variables);
    if (action === ">") {
      this.requests.set(value.id, value);
      await this.kernel.send(value);
    } else if (action === ">raw") await this.kernel.write(value + "\n");
    else if (action === ">fill") await this.kernel.write("x".repeat(value) + "\n");
    else if (action === ">close") this.kernel.child.stdin.end();
    else if (action === "<") await this.hear(value);
    else await this.end(value);
  }

  async hear(message) {
    if ("id" in message) {
      const responses = this.responses.of(message.id);
      while (!responses.length) await this.next();
      this.compare(message, responses.shift());
      this.closeJob(this.jobOf(message.id));
    } else if (message.method === "kernel/state") {
      while (!this.states) await this.next();
      this.states -= 1;
    } else if (!LOSSY.has(message.method)) {
      this.expected.of(message.params.job_id).push(message);
    }
  }

  jobOf(id) {
    return this.requests.get(id)?.params?.job_id;
  }

  closeJob(job) {
    const expected = this.expected.of(job);
    if (!expected.length) return;
    this.compare(joined(expected), joined(this.said.of(job)));
    this.expected.delete(job);
    this.said.delete(job);
  }

  compare(expected, actual) {
    this.problems.push(...differences(expected, actual, this.bound));
  }

  /** Takes in one message; false once there are no more. */
  async next(mayEnd = false) {
    const message = await this.kernel.receive();
    if (message === undefined) {
      if (mayEnd) return false;
      throw new Error("stdout has ended");
    }
    this.problems.push(...breaches(message, this.requests.get(message.id)));
    if (message.method === undefined) {
      this.responses.of(message.id).push(message);
      this.seqs.delete(this.jobOf(message.id)); // the next attempt counts anew
      return true;
    }
    if ("seq" in message.params) this.count(message.params);
    if (message.method === "kernel/state") this.states += 1;
    else if (!LOSSY.has(message.method)) this.said.of(message.params.job_id).push(message);
    return true;
  }

  count({ job_id, seq }) {
    const last = this.seqs.get(job_id) ?? 0;
    if (seq <= last) this.problems.push(`seq ${seq} of ${job_id} follows ${last}`);
    this.seqs.set(job_id, seq);
  }

  async end(code) {
    while (await this.next(true));
    this.compare(code, await bounded(this.kernel.exit, "the kernel to leave"));
    for (const lists of [this.responses, this.said, this.expected]) {
      for (const left of [...lists.values()].flat()) this.problems.push(`left over: ${JSON.stringify(left)}`);
    }
  }
}

async function replay(name, command, variables) {
  const lines = readFileSync(join(SCENARIOS, `${name}.jsonl`), "utf8").trimEnd().split("\n");
  return withKernel(command, async (kernel) => {
    const player = new Player(kernel);
    for (const line of lines) await player.play(JSON.parse(line), variables);
    return player.problems;
  });
}

// --- What a program would do ------------------------------------------------------------------------------

/** The caption of one picture. */
function tag(image, model, command) {
  return withKernel(command, async (kernel) => {
    const answer = async (id, method, params) => {
      await kernel.send({ jsonrpc: "2.0", id, method, params });
      const items = [];
      for (;;) {
        const message = await kernel.receive();
        if (message === undefined) throw new Error("the kernel has gone");
        if (message.method === "partial") items.push(...message.params.items);
        if (message.id !== id) continue;
        if (message.error) throw new Error(`${message.error.data.kind}: ${message.error.message}`);
        return { result: message.result, items };
      }
    };
    await answer(1, "initialize", {
      contract: { levels: openrpc["x-levels"] },
      client: { name: "host.mjs", version: process.version },
      parent_pid: process.pid,
      roots: [dirname(image), model],
    });
    const job = { job_id: "job_node", v: 2, inputs: { images: [image] }, settings: { model: { path: model } } };
    const { items } = await answer(2, "tag", job);
    kernel.child.stdin.end();
    await bounded(kernel.exit, "the kernel to leave");
    return items[0]?.caption;
  });
}

/** Whether the kernel prints the contract that is committed. */
function checkContract(command) {
  const printed = spawnSync(command[0], [...command.slice(1), "--contract"], { timeout: WAIT_MS });
  if (printed.status !== 0) throw new Error(`--contract failed: ${printed.error ?? printed.stderr}`);
  return isDeepStrictEqual(JSON.parse(printed.stdout.toString("utf8")), openrpc);
}

// --- The command ------------------------------------------------------------------------------------------

function parse(argv) {
  const options = { scenarios: [], command: [] };
  while (argv.length) {
    const word = argv.shift();
    if (word === "--") options.command = argv.splice(0);
    else if (word === "--scenario") options.scenarios.push(argv.shift());
    else if (["--files", "--image", "--model"].includes(word)) options[word.slice(2)] = argv.shift();
    else throw new Error(`unknown option ${word}`);
  }
  const given = process.env.LORAKEET_KERNEL ?? "lorakeet-kernel";
  if (!options.command.length) options.command = given.startsWith("[") ? JSON.parse(given) : given.split(/\s+/);
  return options;
}

async function main() {
  const options = parse(process.argv.slice(2));
  let failures = 0;
  const say = (ok, text) => {
    failures += ok ? 0 : 1;
    console.log(`${ok ? "ok" : "FAILED"} ${text}`);
  };
  say(checkContract(options.command), "the kernel prints the committed contract");
  if (options.files) {
    const variables = JSON.parse(readFileSync(options.files, "utf8"));
    const every = readdirSync(SCENARIOS).filter((file) => file.endsWith(".jsonl"));
    const names = options.scenarios.length ? options.scenarios : every.map((file) => file.slice(0, -6)).sort();
    for (const name of names) {
      const problems = await replay(name, options.command, variables).catch((error) => [error.message]);
      say(problems.length === 0, [`transcript ${name}`, ...problems].join("\n    "));
    }
  }
  if (options.image) say(true, `caption: ${await tag(options.image, options.model, options.command)}`);
  return failures ? 1 : 0;
}

process.exitCode = await main();
