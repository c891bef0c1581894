// An Express app with socket.io behind auth-gateway: `node server.js PORT`.
import { createServer } from "node:http";
import express from "express";
import { Server } from "socket.io";

const app = express();
// The scheme and the host that people use, as the gateway on this machine says.
app.set("trust proxy", "loopback");
app.use(express.urlencoded({ extended: false }));

const page = `<!doctype html><title>Chat</title><ul id="messages"></ul><p id="state">connecting</p>
<form id="say"><input id="text" autocomplete="off"><button>Send</button></form>
<form method="post" action="/name"><input name="name"><button id="save">Save</button></form>
<script src="/socket.io/socket.io.js"></script>
<script>
const socket = io();
const state = document.querySelector("#state");
const show = () => (state.textContent = socket.connected ? "connected by " + socket.io.engine.transport.name : "disconnected");
socket.on("connect", () => { show(); socket.io.engine.on("upgrade", show); });
socket.on("disconnect", show);
socket.on("message", (text) => document.querySelector("#messages").append(Object.assign(document.createElement("li"), { textContent: text })));
document.querySelector("#say").addEventListener("submit", (event) => {
  event.preventDefault();
  socket.emit("message", document.querySelector("#text").value);
});
</script>`;

app.get("/chat/room", (request, response) => response.send(page));
app.post("/name", (request, response) => response.send(`${request.get("X-Auth-User")} is ${request.body.name} at ${request.protocol}://${request.get("host")}`));

const server = createServer(app);
const io = new Server(server);
io.on("connection", (socket) => {
  const user = socket.handshake.headers["x-auth-user"];
  socket.on("message", (text) => io.emit("message", `${user}: ${text}`));
});
server.listen(Number(process.argv[2]), "127.0.0.1");
