package pgsource

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
)

const (
	defaultStatusInterval = time.Second
	defaultBatchChanges   = 256
	defaultBatchBytes     = 256 << 10
)

// slotName is what Postgres allows: names are also file names on the server.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// Config says which slot to read and what has to be published through it.
type Config struct {
	URL         secret.String // required; postgres://…, a direct connection, not one through a pooler
	Slot        string        // required; lower case letters, digits and _
	Publication string        // required

	// Tables are the mapped tables. ControlTables are the relay's own,
	// schema.table: published where they exist, and with full old rows, except
	// outbox_events and relay_backfill_chunks, of which only inserts count.
	Tables        []relay.TableNeed
	ControlTables []string

	// CreateSlot allows to create a slot that does not exist. ExpectSlot says that
	// it was there before, so that its absence is a gap and halts. AcceptGap is the
	// operator's word to create it anew all the same, also in place of a lost one.
	CreateSlot bool
	ExpectSlot bool
	AcceptGap  bool

	// Published is how far the log is in the stream, where that is known: a halt names
	// it as the begin of what is lost.
	Published relay.LSN

	// BatchChanges and BatchBytes bound a batch, a little loosely: the row that
	// reaches a bound is still in. Default 1024 and 1 MiB.
	BatchChanges int
	BatchBytes   int

	// StatusInterval is the time between two reports to the server. Defaults to one
	// second; a quarter of wal_sender_timeout when that is shorter.
	StatusInterval time.Duration

	// OnReceived, when set, is told how far the log was read. It is called from the
	// reader and must return at once.
	OnReceived func(relay.LSN)

	Logger *slog.Logger // default slog.Default()
}

// complete checks the configuration and fills in the defaults.
func (c Config) complete() (Config, error) {
	switch {
	case c.URL.IsZero():
		return c, setupError("no database URL", "set RELAY_DATABASE_URL to postgres://user:password@host:5432/database")
	case !slotName.MatchString(c.Slot):
		return c, setupError(fmt.Sprintf("slot name %q", c.Slot), "use 1 to 63 lower case letters, digits and underscores")
	case c.Publication == "":
		return c, setupError("no publication name", "set RELAY_PUBLICATION")
	}
	for _, need := range c.needs() {
		if schema, name, ok := strings.Cut(need.Name, "."); !ok || schema == "" || name == "" {
			return c, setupError(fmt.Sprintf("table name %q", need.Name), "write it as schema.table")
		}
	}
	if c.BatchChanges <= 0 {
		c.BatchChanges = defaultBatchChanges
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = defaultBatchBytes
	}
	if c.StatusInterval <= 0 {
		c.StatusInterval = defaultStatusInterval
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("component", "pgsource", "slot", c.Slot)
	return c, nil
}

// needs returns mapped and control tables, each table once.
func (c Config) needs() []relay.TableNeed {
	var out []relay.TableNeed
	at := map[string]int{}
	add := func(need relay.TableNeed) {
		if i, ok := at[need.Name]; ok {
			out[i].OldRows = out[i].OldRows || need.OldRows
			return
		}
		at[need.Name] = len(out)
		out = append(out, need)
	}
	for _, name := range c.ControlTables {
		inserts := strings.HasSuffix(name, ".outbox_events") || strings.HasSuffix(name, ".relay_backfill_chunks")
		add(relay.TableNeed{Name: name, OldRows: !inserts})
	}
	for _, need := range c.Tables {
		add(need)
	}
	return out
}

func (c Config) isControl(table string) bool {
	return slices.Contains(c.ControlTables, table)
}

// quote returns name as an SQL identifier.
func quote(name ...string) string { return pgx.Identifier(name).Sanitize() }

// literal returns s as an SQL string, for commands that take no parameters.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
