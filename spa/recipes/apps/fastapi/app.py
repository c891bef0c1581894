"""A FastAPI app behind auth-gateway, with server-sent events and a WebSocket: `uvicorn app:app --port PORT`."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Header, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, StreamingResponse

app = FastAPI()
User = Annotated[str, Header(alias="X-Auth-User")]

PAGE = """<!doctype html><title>FastAPI</title><h1>%s</h1><p id="events">no event</p><p id="socket">no message</p>
<form method="post" action="/upload" enctype="multipart/form-data"><input name="file" type="file"><button>Upload</button></form>
<script>
const events = new EventSource("/events");
events.onmessage = (event) => (document.querySelector("#events").textContent = event.data);
events.onerror = () => (document.querySelector("#events").textContent = "events ended");
const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
socket.onopen = () => socket.send("hello");
socket.onmessage = (event) => (document.querySelector("#socket").textContent = event.data);
socket.onclose = () => (document.querySelector("#socket").textContent = "socket closed");
</script>"""


@app.get("/board")
async def board(user: User) -> HTMLResponse:
    return HTMLResponse(PAGE % user)


@app.get("/events")
async def events(user: User) -> StreamingResponse:
    async def stream():
        for number in range(10_000):
            yield f"data: event {number} for {user}\n\n"
            await asyncio.sleep(0.2)

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.post("/upload")
async def upload(user: User, file: UploadFile):
    return {"user": user, "bytes": len(await file.read())}


@app.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            text = await socket.receive_text()
            await socket.send_text(f"{socket.headers['x-auth-user']} said {text}")
    except WebSocketDisconnect:
        pass
