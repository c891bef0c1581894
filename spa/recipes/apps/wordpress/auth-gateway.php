<?php
/*
 * Plugin Name: Sign-in by auth-gateway
 * A must-use plugin: put it into wp-content/mu-plugins. The gateway says who the person is, and a role of the gateway's becomes one
 * of WordPress.
 */

const AUTH_GATEWAY_ROLES = array('admin' => 'administrator', 'editor' => 'editor');

add_filter('determine_current_user', function () {
    static $found = null;
    if ($found !== null) {
        return $found;
    }
    // WordPress asks again while it makes a user.
    $found = 0;
    $name = rawurldecode($_SERVER['HTTP_X_AUTH_USER'] ?? '');
    if ($name === '') {
        return $found;
    }
    $given = explode(',', $_SERVER['HTTP_X_AUTH_ROLES'] ?? '');
    $roles = array_values(array_intersect_key(AUTH_GATEWAY_ROLES, array_flip($given)));
    $role = $roles[0] ?? 'author';
    $user = get_user_by('login', $name);
    if (!$user) {
        $id = wp_insert_user(array('user_login' => $name, 'user_pass' => wp_generate_password(64), 'role' => $role));
        $user = is_wp_error($id) ? false : get_user_by('id', $id);
    }
    if (!$user) {
        return $found;
    }
    if ($user->roles !== array($role)) {
        $user->set_role($role);
    }
    return $found = $user->ID;
}, 100);

// WordPress asks for a cookie of its own here, which it has no need of.
function auth_redirect()
{
    if (!is_user_logged_in()) {
        wp_die('Sign in first.', 403);
    }
}

// Its own sign-in page leads to the gateway's pages.
add_filter('login_url', fn ($url, $to) => '/auth/login?return=' . rawurlencode($to ?: '/'), 10, 2);
add_filter('logout_url', fn () => '/auth/logout');
add_action('login_init', function () {
    wp_redirect('/auth/logout');
    exit;
});
