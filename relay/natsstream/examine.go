package natsstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Facts is what a server and its stream tell. What they mean is for the caller to
// say; what breaks the promise, CheckStream says.
type Facts struct {
	Version    string // of the server
	Cluster    string // its name; empty: a single server
	MaxPayload int64
	Stored     int64 // bytes of the account's files
	StoreLimit int64 // what they may be; 0 or less: no limit
	Stream     *StreamFacts
}

// StreamFacts is what the stream tells; there is none when it does not exist yet.
type StreamFacts struct {
	Messages, Bytes       uint64
	MaxAge                time.Duration // 0: for ever
	MaxBytes              int64         // 0 or less: no limit
	MaxMsgs               int64
	Replicas              int
	DenyDelete, DenyPurge bool
	Atomic, Fast          bool // kinds of batches that it takes
}

// Examine reads the facts and changes nothing.
func (c *Client) Examine(ctx context.Context) (Facts, error) {
	ctx, cancel := c.session(ctx)
	defer cancel()
	f := Facts{Version: c.nc.ConnectedServerVersion(), Cluster: c.nc.ConnectedClusterName(), MaxPayload: c.nc.MaxPayload()}
	account, err := c.js.AccountInfo(ctx)
	if err != nil {
		return f, fmt.Errorf("ask NATS for the account's limits: %w", err)
	}
	f.Stored, f.StoreLimit = int64(account.Store), account.Limits.MaxStore
	info, err := c.info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.Stream = &StreamFacts{
		Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxAge: info.Config.MaxAge, MaxBytes: info.Config.MaxBytes, MaxMsgs: info.Config.MaxMsgs,
		Replicas: info.Config.Replicas, DenyDelete: info.Config.DenyDelete, DenyPurge: info.Config.DenyPurge,
		Atomic: info.Config.AllowAtomicPublish, Fast: info.Config.AllowBatchPublish,
	}
	return f, nil
}
