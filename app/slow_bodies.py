"""Bodies that do not come: whoever sends nothing for a while is told so and hung up on, so that nobody can keep
connections open for nothing. A slow body that keeps coming is let in; it takes no thread and no session meanwhile.
"""

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

IDLE_S = 60.0


class BodyDeadline:
    """Answers 408 where the next piece of a body is too late."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_whole = False

        async def receive_in_time() -> Message:
            nonlocal is_whole
            if is_whole:  # what comes now is only that the client has gone
                return await receive()
            with anyio.move_on_after(IDLE_S):
                message = await receive()
                is_whole = not message.get("more_body", False)
                return message
            raise HTTPException(408, f"nothing of the body came for {IDLE_S:.0f} seconds")

        await self._app(scope, receive_in_time if scope["type"] == "http" else receive, send)
