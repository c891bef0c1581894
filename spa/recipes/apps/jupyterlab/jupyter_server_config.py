"""JupyterLab behind auth-gateway: the person is who the gateway says."""

from jupyter_server.auth import IdentityProvider, User


class GatewayIdentity(IdentityProvider):
    token = ""
    login_available = False
    logout_available = False

    def get_user(self, handler):
        name = handler.request.headers.get("X-Auth-User")
        return User(username=name, name=name, display_name=name) if name else None


c = get_config()  # noqa: F821: Jupyter's
c.ServerApp.identity_provider_class = GatewayIdentity
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.open_browser = False
# Any Host: the gateway sends the one that people use.
c.ServerApp.allow_remote_access = True
# "Log out" in the menu leads there, if you link it; X-Forwarded-Proto makes the links of the server right.
c.ServerApp.trust_xheaders = True
