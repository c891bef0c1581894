export default {
  server: {
    host: "127.0.0.1",
    strictPort: true,
    // The names that people use, where they are not localhost or an address.
    allowedHosts: ["app.example"],
  },
};
