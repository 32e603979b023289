// Package config holds the settings of a relay process and reads them: defaults,
// then a YAML file, then RELAY_* environment variables, the later winning.
//
// A mistake never passes in silence: an unknown key is refused with its line, an
// unknown RELAY_* variable with the name it was probably meant to be, and one
// Error lists everything that is wrong, each with its remedy. Values that may
// hold a password are secret.Strings; no error of this package quotes them.
//
// Event types, mappings and subscriptions are rows in Postgres, not settings.
package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/dot-do/relay/internal/secret"
)

// Config is every setting of a process. relay.example.yaml shows the same keys
// with their defaults; a test keeps the two equal.
type Config struct {
	Source  Source  `yaml:"source"`
	NATS    NATS    `yaml:"nats"`
	Webhook Webhook `yaml:"webhook"`

	// Listen is the host:port that health, metrics and the API are served on.
	// Port 0 picks a free one. Defaults to 127.0.0.1:8080.
	Listen string `yaml:"listen" env:"RELAY_LISTEN"`

	// PortFile is where the addresses listened on are written as JSON, for whoever
	// configured a port 0. Empty, the default: nowhere.
	PortFile string `yaml:"port_file" env:"RELAY_PORT_FILE"`

	// MasterKeyFile holds lines keyid:base64, see package secret. Empty, the
	// default: signing secrets are stored as they come.
	MasterKeyFile string `yaml:"master_key_file" env:"RELAY_MASTER_KEY_FILE"`

	// DrainTimeout is how long a stopping process waits for what is in flight.
	// Defaults to 20s.
	DrainTimeout time.Duration `yaml:"drain_timeout" env:"RELAY_DRAIN_TIMEOUT"`

	Log Log `yaml:"log"`

	// Unread names the RELAY_* variables that no setting has and that resemble none,
	// for a warning. It is no setting.
	Unread []string `yaml:"-"`
}

// Source is the Postgres whose changes are captured; it holds the relay's own
// tables too.
type Source struct {
	// URL is a postgres:// URL or a key=value connection string. Required.
	URL secret.String `yaml:"url" env:"RELAY_DATABASE_URL"`

	// Slot names the logical replication slot; one process at a time streams from
	// it, others with the same slot stand by. Defaults to relay.
	Slot string `yaml:"slot" env:"RELAY_SLOT"`

	// Publication names the published tables. Defaults to relay.
	Publication string `yaml:"publication" env:"RELAY_PUBLICATION"`

	// InitialSnapshot publishes, at the first start of a slot, the rows that the
	// mapped tables have already, as events with op "read". Defaults to false.
	InitialSnapshot bool `yaml:"initial_snapshot" env:"RELAY_INITIAL_SNAPSHOT"`

	// Heartbeat is the least time between two messages that are written into the
	// log while other databases of the server fill it and this one is idle. 0: none.
	// Defaults to 10s.
	Heartbeat time.Duration `yaml:"heartbeat" env:"RELAY_HEARTBEAT"`

	// WALBudget is how much log the slot may keep on the server's disk; a warning
	// comes at 70 percent of it. 0: no limit but the server's own. Defaults to 10GB.
	WALBudget Bytes `yaml:"wal_budget" env:"RELAY_WAL_BUDGET"`

	// WALPolicy is what happens beyond the budget: warn, halt, or drop-slot, which
	// gives changes up to save the disk. Defaults to warn.
	WALPolicy string `yaml:"wal_policy" env:"RELAY_WAL_POLICY"`
}

// Values of Source.WALPolicy.
const (
	PolicyWarn     = "warn"
	PolicyHalt     = "halt"
	PolicyDropSlot = "drop-slot"
)

// NATS is the JetStream that keeps the events.
type NATS struct {
	// URL is one or more nats:// URLs, separated by commas. Empty, the default: the
	// NATS server runs inside this process.
	URL secret.String `yaml:"url" env:"RELAY_NATS_URL"`

	// Dir is where the embedded server stores the stream. Defaults to ./data/nats.
	Dir string `yaml:"dir" env:"RELAY_NATS_DIR"`

	// Listen is the host:port the embedded server accepts clients on, or - for
	// none. Port 0 picks a free one. Defaults to 127.0.0.1:4222.
	Listen string `yaml:"listen" env:"RELAY_NATS_LISTEN"`

	// Stream names the JetStream stream. Defaults to EVENTS.
	Stream string `yaml:"stream" env:"RELAY_STREAM"`

	// ConfirmLag is how long the slot keeps what the stream has acknowledged: longer
	// than the server needs to sync it to disk. What a power cut takes from the
	// stream is then published again. Defaults to 5m; 0 where the server is known to
	// sync always.
	ConfirmLag time.Duration `yaml:"confirm_lag" env:"RELAY_CONFIRM_LAG"`

	// AuditEvery is the time between two walks along the chain of positions in the
	// stream, in search of messages that are gone. 0: none, and only what the server
	// itself counts as missing is noticed. Defaults to 1h.
	AuditEvery time.Duration `yaml:"audit_every" env:"RELAY_AUDIT_EVERY"`

	// MonitorURL is the monitoring address of every server, http://nats:8222 and the
	// like, separated by commas. When all of them say that they sync always, there
	// is no confirm lag. Empty, the default: they are not asked.
	MonitorURL secret.String `yaml:"monitor_url" env:"RELAY_NATS_MONITOR_URL"`

	// Batches is how events travel to a stream that takes batches: fast, atomic, off, or
	// auto, the default: atomic where the servers sync always, as confirm_lag or they
	// themselves say, else fast.
	Batches string `yaml:"batches" env:"RELAY_NATS_BATCHES"`

	// MessageIDs gives every message the event's id as Nats-Msg-Id as well, for streams
	// and tools that go by it. It costs the server a quarter of its rate and memory for
	// every id, and the relay does not need it. Defaults to false.
	MessageIDs bool `yaml:"message_ids" env:"RELAY_NATS_MESSAGE_IDS"`
}

// Values of NATS.Batches.
const (
	BatchesAuto   = "auto"
	BatchesFast   = "fast"
	BatchesAtomic = "atomic"
	BatchesOff    = "off"
)

// Embedded reports whether the NATS server runs inside this process.
func (n NATS) Embedded() bool { return n.URL.IsZero() }

// Webhook is how deliveries are sent.
type Webhook struct {
	// HTTPTimeout bounds one attempt, from dialling to the response's headers and
	// what is kept of its body. Defaults to 15s.
	HTTPTimeout time.Duration `yaml:"http_timeout" env:"RELAY_HTTP_TIMEOUT"`

	// RetrySchedule is the delay before each further attempt; the last one repeats.
	// Empty, the default: each subscription's own backoff.
	RetrySchedule []time.Duration `yaml:"retry_schedule" env:"RELAY_RETRY_SCHEDULE"`

	// EgressAllow lists networks that endpoints may live in although the dial guard
	// would refuse them: loopback, private, link-local. Defaults to none.
	EgressAllow []netip.Prefix `yaml:"egress_allow" env:"RELAY_EGRESS_ALLOW"`

	// EgressHTTP also permits endpoints on plain http. Defaults to false.
	EgressHTTP bool `yaml:"egress_http" env:"RELAY_EGRESS_HTTP"`

	// DisableAfter is how long every attempt of a subscription must have failed, twenty
	// at least, before the relay switches it off. Zero never does. Defaults to 120h.
	DisableAfter time.Duration `yaml:"disable_after" env:"RELAY_DISABLE_AFTER"`

	// LogSkipped records an event that meets an inactive subscription in the delivery
	// log, so that it can be replayed. Defaults to true.
	LogSkipped bool `yaml:"log_skipped" env:"RELAY_LOG_SKIPPED"`

	// LogRedact names members whose values the delivery log does not get: email anywhere,
	// data.customer.email at that place. Defaults to none.
	LogRedact []string `yaml:"log_redact" env:"RELAY_LOG_REDACT"`

	// LogPayloadMax is the size of a payload beyond which the delivery log gets its size
	// and hash only. Zero is no bound. Defaults to 256kB.
	LogPayloadMax Bytes `yaml:"log_payload_max" env:"RELAY_LOG_PAYLOAD_MAX"`

	// LogRetention is how long rows of the delivery log are kept: whole days, counted
	// up. Open retries stay. Zero keeps everything. Defaults to 2160h, 90 days.
	LogRetention time.Duration `yaml:"log_retention" env:"RELAY_LOG_RETENTION"`
}

// LogDays is LogRetention in days, 0 for everything.
func (w Webhook) LogDays() int {
	const day = 24 * time.Hour
	return int((w.LogRetention + day - 1) / day)
}

// Log is what is written to stderr.
type Log struct {
	// Level is the least severe level written. Defaults to info.
	Level slog.Level `yaml:"level" env:"RELAY_LOG_LEVEL"`

	// Format is json, text, or auto: text on a terminal, else json. Defaults to
	// auto.
	Format string `yaml:"format" env:"RELAY_LOG_FORMAT"`
}

// Values of Log.Format.
const (
	FormatAuto = "auto"
	FormatJSON = "json"
	FormatText = "text"
)

// Default returns the settings of a process that is told nothing. They are valid
// but for Source.URL, which has no default.
func Default() Config {
	return Config{
		Source:       Source{Slot: "relay", Publication: "relay", Heartbeat: 10 * time.Second, WALBudget: 10 << 30, WALPolicy: PolicyWarn},
		NATS:         NATS{Dir: "./data/nats", Listen: "127.0.0.1:4222", Stream: "EVENTS", Batches: BatchesAuto, ConfirmLag: 5 * time.Minute, AuditEvery: time.Hour},
		Webhook:      Webhook{HTTPTimeout: 15 * time.Second, DisableAfter: 120 * time.Hour, LogSkipped: true, LogPayloadMax: 256 << 10, LogRetention: 90 * 24 * time.Hour},
		Listen:       "127.0.0.1:8080",
		DrainTimeout: 20 * time.Second,
		Log:          Log{Level: slog.LevelInfo, Format: FormatAuto},
	}
}

// Load returns the defaults, overridden by the YAML file at path and then by the
// RELAY_* variables of environ ("key=value", as os.Environ gives them; an empty
// value counts as unset). An empty path means no file. What it returns has passed
// Validate; the error is an *Error that lists every problem, and then the Config
// holds the defaults in the place of what could not be read.
func Load(path string, environ []string) (Config, error) {
	cfg := Default()
	var found problems
	if path != "" {
		found.readFile(&cfg, path)
	}
	found.readEnviron(&cfg, environ)
	// A value that could not be read left its default, which passes: validating
	// after a mistake adds the other mistakes, and no false ones.
	found.validate(&cfg)
	return cfg, found.err()
}

// Validate checks settings that were not made by Load. The error is an *Error
// that lists every problem, each naming its key, its variable and the remedy.
func (c *Config) Validate() error {
	var found problems
	found.validate(c)
	return found.err()
}
