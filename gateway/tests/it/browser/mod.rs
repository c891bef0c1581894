//! Sessions in cookies and pages for people, as browsers see them.

mod cookies;
mod handover;
mod pages;
mod possession;
mod refresh;
mod requests;

use crate::fixture::{Browser, Gateway, HTML, Reply, Upstream};

fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[browser]\nenabled = true\n\
         [store]\nkind = \"memory\"\n[upstreams.app]\nurls = [\"http://{}\"]\n\
         [[routes]]\npath = \"/\"\nupstream = \"app\"\nupgrade = [\"websocket\"]\n\
         [[routes]]\npath = \"/open\"\nupstream = \"app\"\naccess = \"public\"\n\
         [[routes]]\npath = \"/optional\"\nupstream = \"app\"\naccess = \"optional\"\n\
         [[routes]]\npath = \"/admin\"\nupstream = \"app\"\nroles = [\"admin\"]\n\
         [[routes]]\npath = \"/api\"\nupstream = \"app\"\nunauthenticated = \"refuse\"\n\
         [[routes]]\npath = \"/always\"\nupstream = \"app\"\nunauthenticated = \"login\"\n\
         [warnings]\nsilence = [\"shadowed-path\"]\n",
        upstream.address
    )
}

fn start(upstream: &Upstream) -> Gateway {
    Gateway::start(&config(upstream, ""))
}

fn location(reply: &Reply) -> &str {
    assert_eq!(reply.status, 303, "{reply:?}");
    reply.field("location").unwrap()
}
