package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxIdentifier   = 63  // bytes of a Postgres name
	maxStreamName   = 255 // bytes of a JetStream stream name
	maxHTTPTimeout  = 10 * time.Minute
	leastPayload    = Bytes(1 << 10)
	maxRedact       = 100
	maxRedactName   = 200
	maxLogRetention = 100 * 366 * 24 * time.Hour
	maxDrain        = time.Hour
	maxRetryDelay   = 30 * 24 * time.Hour
	maxRetries      = 100
	maxHeartbeat    = time.Hour
	maxConfirmLag   = 24 * time.Hour
	maxAuditEvery   = 7 * 24 * time.Hour
	leastBudget     = Bytes(64 << 20) // the server keeps a few log files for any slot
)

// slotName is what Postgres accepts for a replication slot.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// checks validates one Config; at names a key and its variable in every message.
type checks struct {
	*problems
	env map[string]string
}

func (p *problems) validate(c *Config) {
	check := checks{problems: p, env: make(map[string]string)}
	for _, f := range allFields(c) {
		check.env[f.key] = f.env
	}
	check.source(c.Source)
	check.guard(c.Source)
	check.nats(c.NATS)
	check.webhook(c.Webhook)
	check.address("listen", c.Listen)
	if c.NATS.Embedded() && c.Listen == c.NATS.Listen && !strings.HasSuffix(c.Listen, ":0") {
		check.at("nats.listen", "is the address of listen (RELAY_LISTEN) too; give each its own port")
	}
	check.within("drain_timeout", c.DrainTimeout, 0, maxDrain)
	if !slices.Contains([]string{FormatAuto, FormatJSON, FormatText}, c.Log.Format) {
		check.at("log.format", "is %s; want %s, %s or %s", quote(c.Log.Format), FormatAuto, FormatJSON, FormatText)
	}
}

func (c checks) at(key, format string, args ...any) {
	c.addf("%s (%s) %s", key, c.env[key], fmt.Sprintf(format, args...))
}

func (c checks) source(s Source) {
	switch dsn := s.URL.Reveal(); {
	case dsn == "":
		c.at("source.url", "is not set; set it to postgres://user:password@host:5432/database")
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"):
	case strings.Contains(dsn, "://"), !strings.Contains(dsn, "="):
		c.at("source.url", "is no connection string; want postgres://user:password@host:5432/database or host=… dbname=…")
	}
	if !slotName.MatchString(s.Slot) {
		c.at("source.slot", "is %s; want 1 to 63 of a-z 0-9 _, the only names Postgres accepts for a slot", quote(s.Slot))
	}
	if p := s.Publication; p == "" || len(p) > maxIdentifier || !utf8.ValidString(p) || strings.ContainsFunc(p, unicode.IsControl) {
		c.at("source.publication", "is %s; want a Postgres name of 1 to %d bytes", quote(p), maxIdentifier)
	}
}

func (c checks) guard(s Source) {
	if s.Heartbeat != 0 {
		c.within("source.heartbeat", s.Heartbeat, time.Second, maxHeartbeat)
	}
	if s.WALBudget != 0 && s.WALBudget < leastBudget {
		c.at("source.wal_budget", "is %s; want 0 for none, or %s and more: the server keeps some log for every slot", s.WALBudget, leastBudget)
	}
	if !slices.Contains([]string{PolicyWarn, PolicyHalt, PolicyDropSlot}, s.WALPolicy) {
		c.at("source.wal_policy", "is %s; want %s, %s or %s", quote(s.WALPolicy), PolicyWarn, PolicyHalt, PolicyDropSlot)
	}
}

func (c checks) nats(n NATS) {
	c.within("nats.confirm_lag", n.ConfirmLag, 0, maxConfirmLag)
	if n.AuditEvery != 0 {
		c.within("nats.audit_every", n.AuditEvery, time.Second, maxAuditEvery)
	}
	if !slices.Contains([]string{BatchesAuto, BatchesFast, BatchesAtomic, BatchesOff}, n.Batches) {
		c.at("nats.batches", "is %s; want %s, %s, %s or %s", quote(n.Batches), BatchesAuto, BatchesFast, BatchesAtomic, BatchesOff)
	}
	for server := range strings.SplitSeq(n.MonitorURL.Reveal(), ",") {
		u, err := url.Parse(strings.TrimSpace(server))
		if !n.MonitorURL.IsZero() && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			c.at("nats.monitor_url", "is no list of monitoring addresses; want http://nats:8222, several separated by commas")
			break
		}
	}
	if n.Embedded() {
		if n.Dir == "" {
			c.at("nats.dir", "is empty; name a folder that survives a restart, or set nats.url (%s)", c.env["nats.url"])
		}
		if n.Listen != "-" {
			c.address("nats.listen", n.Listen)
		}
	}
	for server := range strings.SplitSeq(n.URL.Reveal(), ",") {
		scheme, host, ok := strings.Cut(strings.TrimSpace(server), "://")
		known := slices.Contains([]string{"nats", "tls", "ws", "wss"}, scheme)
		if !n.Embedded() && (!ok || !known || host == "") {
			c.at("nats.url", "is no list of NATS servers; want nats://host:4222 (or tls, ws, wss), several separated by commas")
			break
		}
	}
	// The server's own rule: a stream's name is a subject token and a folder.
	forbidden := func(r rune) bool {
		return strings.ContainsRune(`.*>/\`, r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}
	if s := n.Stream; s == "" || len(s) > maxStreamName || !utf8.ValidString(s) || strings.ContainsFunc(s, forbidden) {
		c.at("nats.stream", "is %s; want 1 to %d characters without space . * > / or \\", quote(s), maxStreamName)
	}
}

func (c checks) webhook(w Webhook) {
	c.within("webhook.http_timeout", w.HTTPTimeout, time.Millisecond, maxHTTPTimeout)
	if w.DisableAfter != 0 {
		c.within("webhook.disable_after", w.DisableAfter, time.Second, maxLogRetention)
	}
	if w.LogRetention != 0 {
		c.within("webhook.log_retention", w.LogRetention, time.Hour, maxLogRetention)
	}
	if w.LogPayloadMax != 0 && w.LogPayloadMax < leastPayload {
		c.at("webhook.log_payload_max", "is %s; want 0 for none, or %s and more", w.LogPayloadMax, leastPayload)
	}
	if len(w.LogRedact) > maxRedact {
		c.at("webhook.log_redact", "has %d names; want at most %d", len(w.LogRedact), maxRedact)
	}
	for _, name := range w.LogRedact {
		if name == "" || len(name) > maxRedactName || slices.Contains(strings.Split(name, "."), "") {
			c.at("webhook.log_redact", "holds %s; want the name of a member, or names separated by dots", quote(name))
		}
	}
	if len(w.RetrySchedule) > maxRetries {
		c.at("webhook.retry_schedule", "has %d delays; want at most %d", len(w.RetrySchedule), maxRetries)
	}
	for _, delay := range w.RetrySchedule {
		if !c.within("webhook.retry_schedule", delay, time.Millisecond, maxRetryDelay) {
			break
		}
	}
	for _, network := range w.EgressAllow {
		switch addr := network.Addr(); {
		case !network.IsValid():
			c.at("webhook.egress_allow", "holds an empty network; want 10.0.0.0/8 and the like")
		case addr.Is4In6():
			// The dial guard unmaps an address before it looks, so this would match nothing.
			c.at("webhook.egress_allow", "holds %s; write an IPv4 network as IPv4", network)
		}
	}
}

// within reports a duration outside its limits, and whether it was inside.
func (c checks) within(key string, d, least, most time.Duration) bool {
	if d < least || d > most {
		c.at(key, "is %s; want %s to %s", d, least, most)
		return false
	}
	return true
}

// address checks a host:port to listen on; the host may be empty: all addresses.
func (c checks) address(key, address string) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		c.at(key, "is %s; want host:port, such as 127.0.0.1:8080, or port 0 for a free one", quote(address))
	}
}
