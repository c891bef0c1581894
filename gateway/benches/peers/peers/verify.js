// The name of the user that a good HS256 token speaks of; "" for any other token.

import crypto from 'crypto';

function user(request) {
    try {
        const token = request.headersIn.Authorization.slice('Bearer '.length);
        const parts = token.split('.');
        if (JSON.parse(Buffer.from(parts[0], 'base64url')).alg !== 'HS256') {
            return '';
        }
        const mac = crypto.createHmac('sha256', 'SECRET').update(parts[0] + '.' + parts[1]).digest('base64url');
        if (mac !== parts[2]) {
            return '';
        }
        const claims = JSON.parse(Buffer.from(parts[1], 'base64url'));
        return claims.exp > Date.now() / 1000 ? claims.username : '';
    } catch (e) {
        return '';
    }
}

export default { user };
