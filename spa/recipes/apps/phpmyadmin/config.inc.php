<?php
// phpMyAdmin behind auth-gateway: people come in as who the gateway says, and share one account of the database.
$cfg['blowfish_secret'] = getenv('PMA_SECRET');
$i = 1;
$cfg['Servers'][$i]['auth_type'] = 'config';
$cfg['Servers'][$i]['socket'] = getenv('PMA_SOCKET');
$cfg['Servers'][$i]['user'] = getenv('PMA_USER');
$cfg['Servers'][$i]['password'] = '';
$cfg['Servers'][$i]['AllowNoPassword'] = true;
$cfg['Servers'][$i]['verbose'] = 'for ' . ($_SERVER['HTTP_X_AUTH_USER'] ?? 'nobody');
$cfg['TempDir'] = getenv('PMA_TEMP');
$cfg['VersionCheck'] = false;
$cfg['SendErrorReports'] = 'never';
