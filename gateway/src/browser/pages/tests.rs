use super::*;
use crate::browser::return_address::return_address;
use crate::client_addr::{RequestOrigin, Scheme};

fn pages() -> Pages {
    Pages::new(&PageSettings {
        prefix: "/auth",
        branding_dir: None,
        ask_remember: true,
        password_change: true,
        mfa: true,
        has_tokens: true,
    })
    .unwrap()
}

fn html(response: Response) -> String {
    let Body::Bytes(bytes) = response.into_body() else { panic!("no page") };
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn address(text: &str) -> ReturnAddress {
    let own = RequestOrigin { scheme: Scheme::Https, host: "app.example", port: None };
    return_address(text, own, &["other.example".to_owned()]).unwrap()
}

fn form<'a>(return_to: &'a ReturnAddress, error: Option<FormError>) -> LoginForm<'a> {
    LoginForm { username: "al\"<b>", remember: false, return_to, state: "", error, user: None }
}

#[test]
fn what_people_type_is_text_and_never_markup() {
    let return_to = address("/a?\"><script>alert(1)</script>'");
    let page = html(pages().login(StatusCode::OK, b"", form(&return_to, None)));
    assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    assert!(page.contains("value=\"al&quot;&lt;b&gt;\""), "{page}");
    let page = html(pages().account(b"", "<i>", &return_to));
    assert!(!page.contains("<i>") && !page.contains("<script"), "{page}");
}

#[test]
fn every_error_has_its_text_in_every_language() {
    let return_to = ReturnAddress::home();
    let wait = Duration::from_secs(14 * 60);
    for (error, english, german) in [
        (FormError::BothRequired, "Both username and password are required.", "werden benötigt"),
        (FormError::InvalidCredentials, "Invalid username or password.", "ist falsch"),
        (FormError::Locked(wait), "Please try again in 14 minutes (at ", "in 14 Minuten erneut (um "),
        (FormError::RateLimited(wait), "Too many attempts.", "Zu viele Versuche."),
        (FormError::TooManySessions, "signed in too many times", "zu oft angemeldet"),
        (FormError::Overloaded, "The service is busy.", "ist ausgelastet"),
        (FormError::StoreUnavailable, "cannot be reached", "nicht erreichbar"),
        (FormError::CookieConflict, "two different sessions", "zwei verschiedene Sitzungen"),
        (FormError::CookiesMissing, "does not keep the cookies", "speichert Ihr Browser"),
        (FormError::SessionEnded, "Your session has ended.", "Ihre Sitzung ist beendet."),
        (FormError::Other, "Something went wrong.", "Etwas ist schiefgegangen."),
    ] {
        for (accept, text, lang) in
            [("en", english, "<html lang=\"en\">"), ("de-CH", german, "<html lang=\"de\">")]
        {
            let response = pages().login(StatusCode::OK, accept.as_bytes(), form(&return_to, Some(error)));
            assert_eq!(response.headers()["content-language"], lang[12..14]);
            let page = html(response);
            assert!(page.contains(text) && page.contains(lang), "{error:?}: {page}");
        }
    }
}

#[test]
fn waits_are_told_in_the_largest_unit_that_fits() {
    let pages = pages();
    for (seconds, text) in [
        (0, "1 second"),
        (1, "1 second"),
        (90, "90 seconds"),
        (91, "2 minutes"),
        (900, "15 minutes"),
        (5401, "2 hours"),
        (172_801, "3 days"),
    ] {
        assert_eq!(wait_text(&pages.branding.languages[0], Duration::from_secs(seconds)), text);
    }
}

#[test]
fn pages_allow_no_script_no_frame_and_no_foreign_form() {
    let own = pages().login(StatusCode::OK, b"", form(&address("/a"), None));
    let policy = own.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let rest = "; frame-ancestors 'none'; base-uri 'none'";
    assert!(policy.ends_with(&format!("form-action 'self' http: https:{rest}")), "{policy}");
    // What leads to no app.
    let account = pages().account(b"", "alice", &address("/a"));
    let policy = account.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.ends_with(&format!("form-action 'self'{rest}")), "{policy}");
    let page = html(own);
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()).as_ref());
    assert!(pages().style_hash.contains(&hash), "the style's hash is that of the page");
}

#[test]
fn a_refusal_names_the_roles_and_offers_another_account() {
    let return_to = address("/admin?x=1");
    let context = RefusalContext { user: Some("alice"), return_to: &return_to, request_id: "r1" };
    for (roles, text) in [
        (&["admin".to_owned()][..], "This page needs the role admin."),
        (&["a".to_owned(), "b".to_owned()], "This page needs one of these roles: a, b."),
    ] {
        let page = html(pages().refusal(StatusCode::FORBIDDEN, b"", Refusal::MissingRole(roles), context));
        for part in
            [text, "signed in as alice", "/auth/login?switch=1&amp;return=%2Fadmin%3Fx%3D1", "Sign out", "r1"]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
    }
    for refusal in [
        Refusal::MissingClaim,
        Refusal::Csrf,
        Refusal::FormLost,
        Refusal::StoreUnavailable,
        Refusal::Overloaded,
        Refusal::AppUnavailable,
        Refusal::NotFound,
        Refusal::Other,
    ] {
        let page = html(pages().refusal(StatusCode::OK, b"de", refusal, context));
        assert!(page.contains("<h1>") && page.contains("href="), "{refusal:?}: {page}");
    }
}

#[test]
fn an_operators_template_is_tried_before_anyone_sees_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = PageSettings {
        prefix: "",
        branding_dir: Some(dir.path()),
        ask_remember: false,
        password_change: true,
        mfa: true,
        has_tokens: false,
    };
    for (name, text, problem) in [
        ("login.html", "{{ t.nothing }}", "line 1: undefined value"),
        ("login.html", "{{ t.sign_in|shout }}", "line 1: unknown filter"),
        ("login.html", "<script>alert(1)</script>", "has a script"),
        ("login.html", "<form method=\"post\"><input name=\"username\">", "has no name=\"password\""),
        ("message.html", "<p style=\"color:red\">", "has a style attribute"),
        ("message.html", "{{ heading }}", "has no method=\"post\""),
        ("message.html", "<form method=\"post\" onsubmit='x()'>", "has an event handler"),
        // What only some pages have is tried, too.
        (
            "message.html",
            "<form method=\"post\">{% if request_id %}{{ request_id.at.all }}{% endif %}",
            "undefined value",
        ),
        (
            "tokens.html",
            "<form method=\"post\">{% for token in tokens %}{{ token.at.all }}{% endfor %}",
            "undefined value",
        ),
        ("layout.html", "{% block content %}{% endblock %}{{ nothing.at.all }}", "undefined value"),
    ] {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let error = Pages::new(&settings).unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(dir.path().join("login.html"), "{% extends \"layout.html\" %}{% block content %}<form method=\"post\" action=\"{{ login_path }}\"><input name=\"username\"><input name=\"password\" type=\"password\"><input name=\"return\" value=\"{{ return_to }}\"></form>{% endblock %}").unwrap();
    let page = html(Pages::new(&settings).unwrap().login(StatusCode::OK, b"", form(&address("/x"), None)));
    assert!(
        page.contains("action=\"/login\"") && page.contains("value=\"/x\"") && !page.contains("autocomplete")
    );
}
