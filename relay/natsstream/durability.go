package natsstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/dot-do/relay/internal/secret"
)

// EmbeddedSync is how often the embedded server syncs its store to disk: it is ours, so
// the slot need not wait for NATS' default of two minutes.
const EmbeddedSync = time.Second

// EmbeddedLag is how far the slot has to trail what the embedded server acknowledged.
const EmbeddedLag = 2*EmbeddedSync + 3*time.Second

// Durability is what an acknowledgement of the servers is worth when the power goes.
type Durability struct {
	Always   bool          // synced to disk before it is acknowledged, on every server asked
	Interval time.Duration // else the longest time until it is
	Servers  int           // that were asked
}

// AskDurability asks the monitoring address of each server, separated by commas, how
// it syncs. The protocol that clients speak does not tell. No error holds credentials.
func AskDurability(ctx context.Context, monitor secret.String) (Durability, error) {
	d := Durability{Always: true}
	for address := range strings.SplitSeq(monitor.Reveal(), ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil || u.Host == "" {
			return Durability{}, fmt.Errorf("monitoring address number %d is not a URL", d.Servers+1)
		}
		always, interval, err := askServer(ctx, u)
		if err != nil {
			return Durability{}, fmt.Errorf("ask the monitoring of NATS at %s: %w", u.Host, err)
		}
		d.Servers++
		d.Always, d.Interval = d.Always && always, max(d.Interval, interval)
	}
	return d, nil
}

func askServer(ctx context.Context, base *url.URL) (always bool, interval time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("jsz").String(), nil)
	if err != nil {
		return false, 0, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		if failed, ok := err.(*url.Error); ok { //nolint:errorlint // the client's own wrapping, which quotes the URL
			err = failed.Err
		}
		return false, 0, err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Disabled bool `json:"disabled"`
		Config   *struct {
			SyncAlways   bool          `json:"sync_always"`
			SyncInterval time.Duration `json:"sync_interval"`
		} `json:"config"`
	}
	if res.StatusCode != http.StatusOK {
		return false, 0, fmt.Errorf("it answers with status %d", res.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil || answer.Config == nil {
		return false, 0, fmt.Errorf("it does not answer like the monitoring of a server with JetStream")
	}
	return answer.Config.SyncAlways, answer.Config.SyncInterval, nil
}
