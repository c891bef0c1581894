<?php
// What WordPress's own form does at the first visit.
define('WP_INSTALLING', true);
function wp_mail()
{
    return true;
}
require __DIR__ . '/wordpress/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';
wp_install('Recipe', 'operator', 'operator@example.org', false, '', wp_generate_password(64));
switch_theme('twentytwentythree');
