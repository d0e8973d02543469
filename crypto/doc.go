// Package crypto keeps Sallyport's secrets: it holds them in memory without letting them
// be printed, seals them for the replicated state, and makes the tokens and certificates that
// nodes and agents present.
//
// The hierarchy has three levels. A key-encryption key (KEK) lives outside the replicated
// state, in a file of its own. It wraps a Keyring, a Tink AES-256-GCM keyset. The keyring seals
// the records themselves, each one bound to the place it belongs to (Binding), so that a
// sealed value copied onto another record does not open.
//
// Nothing here reads a clock; callers pass the time.
package crypto
