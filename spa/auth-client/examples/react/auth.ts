import { AuthClient } from "auth-gateway-client";
import type { Claims } from "auth-gateway-client";
import { useSyncExternalStore } from "react";

export const client = new AuthClient();

function subscribe(changed: () => void) {
  client.addEventListener("change", changed);
  return () => client.removeEventListener("change", changed);
}

let [token, claims]: [string | null, Claims | null] = [null, null];

/** The same object until the token changes, as React asks for. */
function snapshot(): Claims | null {
  if (client.accessToken !== token) [token, claims] = [client.accessToken, client.claims];
  return claims;
}

/** Who is logged in, in this tab or by another one. */
export const useClaims = () => useSyncExternalStore(subscribe, snapshot);
