// A real OpenID Connect provider (npm oidc-provider) for the tests: `node provider.mjs PORT`.
//
// Beside its own endpoints: POST /control/rotate (new keys), GET /control/id-token (one that it signs), GET /control/fetches
// (how often its keys were asked for).

import { createServer } from "node:http";
import { generateKeyPairSync, randomUUID } from "node:crypto";

const library = new URL("../../../../spa/node_modules/oidc-provider/lib/index.js", import.meta.url);
const { Provider } = await import(library.href);

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
let fetches = 0;

function provider() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
  const jwk = (key, alg) => ({ ...key.export({ format: "jwk" }), alg, use: "sig", kid: randomUUID() });
  const client = { client_secret: "client secret of the tests", grant_types: ["client_credentials"], redirect_uris: [], response_types: [] };
  return new Provider(issuer, {
    clients: [{ ...client, client_id: "app" }, { ...client, client_id: "gateway" }],
    jwks: { keys: [jwk(rsa, "RS256"), jwk(privateKey, "ES256")] },
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: "read write",
          audience: resource,
          accessTokenTTL: 300,
          accessTokenFormat: resource.endsWith("/opaque") ? "opaque" : "jwt",
          jwt: { sign: { alg: resource.endsWith("/es") ? "ES256" : "RS256" } },
        }),
      },
    },
    scopes: ["read", "write"],
    extraTokenClaims: () => ({ preferred_username: "alice", realm_access: { roles: ["gateway-admin", "other"] } }),
  });
}

let current = provider();

createServer(async (request, response) => {
  if (request.url === "/control/rotate") {
    current = provider();
    return response.end("rotated");
  }
  if (request.url === "/control/fetches") return response.end(String(fetches));
  if (request.url === "/control/id-token") {
    const client = await current.Client.find("app");
    const token = new current.IdToken({ sub: "f3a1", nonce: "n" }, { client });
    token.set("sub", "f3a1");
    token.set("nonce", "n");
    return response.end(await token.issue({ use: "idtoken" }));
  }
  if (request.url === "/jwks") fetches += 1;
  current.callback()(request, response);
}).listen(port, "127.0.0.1", () => console.log("ready"));
