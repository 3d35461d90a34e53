"""`lorakeet`, but with less patience for kernels: `python hurried.py ...`. What users wait minutes for would
take a suite hours."""

from orchestrator.cli import main
from orchestrator.hosting import client, restarts
from orchestrator.jobs import attempt, conversation, waiting

client.START_S = 1.5  # type: ignore[misc]
client.CLOSE_S = 0.5  # type: ignore[misc]
client.WRITE_S = 1.0  # type: ignore[misc]
(client.KernelClient.call.__kwdefaults__ or {})["timeout_s"] = 1.5
conversation.PING_S = 0.4  # type: ignore[misc]
conversation.PONG_S = 0.5  # type: ignore[misc]
restarts.FIRST_PAUSE_S = 0.05  # type: ignore[misc]
waiting.RETRY_S = 0.05  # type: ignore[misc]
attempt.SETTLE_S = 0.1  # type: ignore[misc]

if __name__ == "__main__":
    main()
