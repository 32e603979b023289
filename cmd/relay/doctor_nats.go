package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay/natsstream"
)

// commonPayload is what NATS takes unless it is told otherwise.
const commonPayload = 1 << 20

// nats looks at the server, the stream, and what an acknowledgement is worth.
func (d *doctor) nats(ctx context.Context) {
	if d.cfg.NATS.Embedded() {
		d.add(sevOK, "nats", "runs inside relay run, store in "+d.cfg.NATS.Dir, "")
		d.findings = append(d.findings, judgeDurability(d.cfg.NATS, natsstream.Durability{Interval: natsstream.EmbeddedSync, Servers: 1}, "the embedded server"))
		return
	}
	client, err := connectNATS(ctx, d.cfg)
	if err != nil {
		d.fail("nats", err)
		return
	}
	defer client.Close()
	facts, err := client.Examine(ctx)
	if err != nil {
		d.fail("nats", err)
		return
	}
	switch err := client.CheckStream(ctx); {
	case err == nil:
		d.add(sevOK, "nats", fmt.Sprintf("connected to NATS %s; stream %s fits", facts.Version, d.cfg.NATS.Stream), "")
	case final(err):
		d.fail("nats", err)
		return
	default:
		d.add(sevOK, "nats", fmt.Sprintf("connected to NATS %s; stream %s does not exist yet, relay run creates it", facts.Version, d.cfg.NATS.Stream), "")
	}
	d.findings = append(d.findings, judgeNATS(&facts, d.cfg.NATS.Batches)...)
	if d.cfg.NATS.MonitorURL.IsZero() {
		d.findings = append(d.findings, judgeDurability(d.cfg.NATS, natsstream.Durability{}, ""))
		return
	}
	durability, err := natsstream.AskDurability(ctx, d.cfg.NATS.MonitorURL)
	if err != nil {
		d.add(sevWarning, "durability", err.Error(), "check RELAY_NATS_MONITOR_URL, and http_port of the server; until it answers, the confirm lag stays")
		return
	}
	d.findings = append(d.findings, judgeDurability(d.cfg.NATS, durability, "asked at the monitoring address of "+counted(durability.Servers, "server")))
}

// judgeNATS says what the facts of server and stream mean.
func judgeNATS(f *natsstream.Facts, batches string) []finding {
	var out findings
	switch {
	case olderThan(f.Version, "2.10.23"):
		out.add(sevWarning, "nats", "NATS "+f.Version+" can lose acknowledged events when its process is killed", "upgrade to 2.12.3 or later")
	case f.Cluster != "" && olderThan(f.Version, "2.12.3"):
		out.add(sevWarning, "nats", "NATS "+f.Version+" can lose acknowledged events when servers join or leave the cluster", "upgrade to 2.12.3 or later")
	}
	if f.MaxPayload < commonPayload {
		out.add(sevWarning, "nats", fmt.Sprintf("max_payload is %s: larger rows come as their key only", config.Bytes(f.MaxPayload)), "raise max_payload of the server to 1MB or more")
	}
	if f.StoreLimit > 0 && f.Stored*10 >= f.StoreLimit*8 {
		out.add(sevWarning, "nats", fmt.Sprintf("the account's files fill %d %% of the %d MB that it may keep: when it is full, capture waits", f.Stored*100/f.StoreLimit, f.StoreLimit>>20), "raise the limit, or shorten max_age of streams")
	}
	s := f.Stream
	if s == nil {
		return out
	}
	if !s.DenyDelete || !s.DenyPurge {
		out.add(sevWarning, "stream", "messages can be deleted or purged from the stream: the relay would report it, but cannot put them back", "set deny_delete and deny_purge to true: nats stream edit -i; a stream that the relay makes denies both")
	}
	if s.Replicas == 1 && f.Cluster != "" {
		out.add(sevWarning, "stream", "the stream has one replica in cluster "+f.Cluster+": with its server the events are away, with its disk they are gone", "nats stream edit --replicas=3")
	}
	if batches != config.BatchesOff && !olderThan(f.Version, "2.14.0") && (!s.Fast || !s.Atomic) {
		out.add(sevNote, "stream", "the stream does not take batches of both kinds: events may have to go one by one, at two thirds of the rate", "set allow_batched and allow_atomic to true: nats stream edit -i; a stream that the relay makes has both")
	}
	if s.MaxAge > 0 && s.MaxAge < 24*time.Hour {
		out.add(sevWarning, "stream", fmt.Sprintf("events are kept for %s: a subscriber or the deliverers that are away for longer miss them", s.MaxAge), "nats stream edit --max-age=7d")
	}
	if s.MaxBytes > 0 && int64(s.Bytes)*10 >= s.MaxBytes*7 {
		out.add(sevWarning, "stream", fmt.Sprintf("the stream is %d %% full: when it is full, capture waits and the slot keeps the log", int64(s.Bytes)*100/s.MaxBytes), "raise max_bytes, or shorten max_age: nats stream edit")
	}
	return out
}

// judgeDurability says what a power cut takes from the stream, whether the slot gives
// it back, and how that is known. No server asked means that nobody knows.
func judgeDurability(cfg config.NATS, d natsstream.Durability, how string) finding {
	lag := lagOf(&cfg)
	kept := fmt.Sprintf("the slot keeps what was acknowledged for %s (confirm_lag) and gives back what a power cut takes", lag)
	switch {
	case d.Always && d.Servers > 0:
		return finding{sevOK, "durability", "NATS syncs to disk before it acknowledges (" + how + "): the slot is confirmed at once", ""}
	case d.Servers == 0 && lag == 0:
		return finding{
			sevWarning, "durability", "confirm_lag is 0, and nobody asked NATS how it syncs: unless it syncs always, a power cut costs acknowledged events for good",
			"set sync_interval: always in the server's jetstream block, and RELAY_NATS_MONITOR_URL so that this can be seen; or RELAY_CONFIRM_LAG=5m",
		}
	case d.Servers == 0:
		return finding{
			sevNote, "durability", "how NATS syncs to disk is not known, by default every two minutes; " + kept,
			"set RELAY_NATS_MONITOR_URL to be sure; where the server syncs always, there is no lag",
		}
	case lag < 2*d.Interval:
		return finding{
			sevWarning, "durability", fmt.Sprintf("NATS syncs to disk every %s (%s), and confirm_lag is %s: a power cut can cost acknowledged events for good", d.Interval, how, lag),
			fmt.Sprintf("set RELAY_CONFIRM_LAG=%s or more", 2*d.Interval+time.Minute),
		}
	}
	return finding{sevNote, "durability", fmt.Sprintf("NATS syncs to disk every %s (%s); %s", d.Interval, how, kept), ""}
}

// olderThan compares versions by their numbers; what comes behind a dash does not
// count, and an unknown version is not old.
func olderThan(version, than string) bool {
	have, want := numbers(version), numbers(than)
	if have == nil {
		return false
	}
	for i := range want {
		switch {
		case i >= len(have) || have[i] < want[i]:
			return true
		case have[i] > want[i]:
			return false
		}
	}
	return false
}

func numbers(version string) []int {
	version, _, _ = strings.Cut(version, "-")
	var out []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		out = append(out, n)
	}
	return out
}
