// Node-RED behind auth-gateway. It has no login of its own: the gateway lets editors in, and no one else.
module.exports = {
  uiHost: "127.0.0.1",
  uiPort: Number(process.env.PORT),
  userDir: process.env.NODE_RED_USER_DIR,
  flowFile: "flows.json",
  credentialSecret: false,
  telemetry: { enabled: false },
  editorTheme: { tours: false, header: { title: "Node-RED" } },
  logging: { console: { level: "warn" } },
};
