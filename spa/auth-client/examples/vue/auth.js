import { AuthClient } from "auth-gateway-client";
import { shallowRef } from "vue";

export const client = new AuthClient();

/** Who is logged in, in this tab or by another one. */
export const claims = shallowRef(client.claims);

client.addEventListener("change", () => (claims.value = client.claims));
