// Package hub takes public models from a Hugging Face hub, or from the cache that
// Hugging Face's own programs keep, into that cache. It is the only part of scumble
// that opens a network connection, and only where a caller asks it to.
//
// The settings are those of huggingface_hub: HF_HOME, HF_HUB_CACHE, HF_TOKEN,
// HF_TOKEN_PATH, HF_ENDPOINT, HF_HUB_OFFLINE, XDG_CACHE_HOME. A revision is resolved
// to its commit once, every file is that commit's, and each is compared with the
// hash that the hub's index gives before the model counts as there.
//
// This package sees no private data.
package hub
