// Package secret keeps secrets out of logs and out of plain text at rest.
//
// String is a string that prints as ***. Keyring turns a secret into an envelope
// that may be stored in a table, and back:
//
//	enc:v1:<key id>:<nonce>:<ciphertext and tag>
//
// Nonce and ciphertext are base64url without padding; the cipher is AES-256-GCM
// with a random 96-bit nonce, so one key may seal 2^32 secrets. The additional
// data (see AAD) names table, column and row: an envelope copied to another row
// does not open there. The key id says which key opens it, so keys rotate by
// putting a new line first in the key file and sealing again what is not Current.
//
// No error of this package quotes a key, a secret or an envelope.
package secret
