package pgsource

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
)

// Policy is what a guard does when the slot keeps more log than its budget.
type Policy string

// Policies of a guard.
const (
	PolicyWarn     Policy = "warn"      // say so, and go on
	PolicyHalt     Policy = "halt"      // stop; the slot stays, and keeps the log
	PolicyDropSlot Policy = "drop-slot" // give the log up to save the server's disk, and stop
)

const (
	defaultGuardEvery = 5 * time.Second
	guardImpatience   = 500 * time.Millisecond
	defaultOpenFor    = 10 * time.Minute
	defaultPatience   = time.Minute

	budgetWarning = 0.7 // of the budget
	// A heartbeat is written only for log worth letting go: it writes log itself.
	heartbeatWorthwhile = 1 << 20
	// HeartbeatPrefix marks the logical messages that a guard writes.
	HeartbeatPrefix = "relay.heartbeat"
)

// GuardConfig configures Guard.
type GuardConfig struct {
	URL         secret.String // required
	Slot        string        // required
	Publication string        // required

	Every time.Duration // between two looks; default 5s

	// Heartbeat is the least time between two logical messages, which are written
	// while the log grows by what other databases write and Held does not follow.
	// Zero: none.
	Heartbeat time.Duration
	// Held is how far the log is dealt with, zero while this process does not
	// capture. Nil: no heartbeats.
	Held func() relay.LSN

	// Budget is how much log the slot may keep, in bytes, zero for no limit but the
	// server's max_slot_wal_keep_size. Policy acts when it is exceeded for Patience,
	// by default a minute, and what is kept has not become less meanwhile: a relay
	// that catches up is left alone.
	Budget   int64
	Policy   Policy
	Patience time.Duration

	OpenFor time.Duration // a transaction that is open for longer is reported; default 10m

	OnLook func(SlotHealth) // told after each look; must return at once
	Logger *slog.Logger     // default slog.Default()
}

// SlotHealth is what a guard saw.
type SlotHealth struct {
	Retained int64  // bytes of log that the server keeps for the slot
	Behind   int64  // bytes of log that the slot was not confirmed past
	Status   string // wal_status
	Budget   int64  // in force; zero: none
	Oldest   *OpenTransaction
	Warning  string // what a person should look at; empty: all is well
	Beats    int    // heartbeats written so far
}

// OpenTransaction is the transaction that wrote first among those that are still
// open: the log is kept from its first record on, however far the slot is confirmed.
type OpenTransaction struct {
	PID      int32  // zero for a prepared one
	GID      string // of a prepared one
	Database string
	Age      time.Duration
}

// String names the transaction as an operator would look for it.
func (o *OpenTransaction) String() string {
	age := o.Age.Round(time.Second)
	if o.GID != "" {
		return fmt.Sprintf("prepared transaction %q of database %q, open for %s", o.GID, o.Database, age)
	}
	return fmt.Sprintf("transaction of server process %d in database %q, open for %s", o.PID, o.Database, age)
}

// Guard watches over the log that a slot keeps on its server's disk, whether or
// not anybody reads the slot, until ctx ends: then it returns nil. A *relay.HaltError
// means that the budget's policy acted, or that the publication is not what it was.
// Whatever else is in its way it tries again.
func Guard(ctx context.Context, cfg GuardConfig) error {
	g := &guard{cfg: cfg, log: cfg.Logger}
	orDefault(&g.cfg.Every, defaultGuardEvery)
	orDefault(&g.cfg.OpenFor, defaultOpenFor)
	orDefault(&g.cfg.Patience, defaultPatience)
	orDefault(&g.cfg.Policy, PolicyWarn)
	if g.log == nil {
		g.log = slog.Default()
	}
	g.log = g.log.With("component", "guard", "slot", cfg.Slot)
	defer func() {
		if g.conn != nil {
			closeSQL(ctx, g.conn)
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := g.look(ctx); err != nil {
			return err
		}
		every := g.cfg.Every
		if g.publication == 0 { // it is being made just now, perhaps
			every = min(every, guardImpatience)
		}
		timer.Reset(every)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// guard is what a Guard remembers from one look to the next.
type guard struct {
	cfg  GuardConfig
	log  *slog.Logger
	conn *pgx.Conn

	publication uint32 // its OID when it was first seen
	seen        relay.LSN
	said        string // last warning
	held        relay.LSN
	beat        time.Time
	beats       int
	over        time.Time // since when the budget is exceeded
	least       int64     // kept since then
}

// look is one look. Only a halt is an error; anything else is tried again.
func (g *guard) look(ctx context.Context) error {
	if g.conn == nil {
		conn, err := connectSQL(ctx, g.cfg.URL)
		if err != nil {
			g.log.DebugContext(ctx, "the slot cannot be looked at", "error", err)
			return nil
		}
		g.conn = conn
	}
	sight, err := g.read(ctx)
	if err != nil {
		if ctx.Err() == nil {
			g.log.DebugContext(ctx, "the slot cannot be looked at", "error", err)
		}
		closeSQL(ctx, g.conn)
		g.conn = nil
		return nil
	}
	if err := g.checkPublication(sight); err != nil {
		return err
	}
	if !sight.found || sight.standby {
		return nil // whoever reads the slot will say what that means
	}
	g.heartbeat(ctx, sight)
	h := g.judge(sight)
	if g.cfg.OnLook != nil {
		g.cfg.OnLook(h)
	}
	g.say(ctx, h)
	return g.act(ctx, sight, h)
}

// sight is what one look at the server shows.
type sight struct {
	standby     bool
	publication uint32
	found       bool
	pid         int32
	status      string
	restart     relay.LSN
	confirmed   relay.LSN
	end         relay.LSN
	limit       int64 // max_slot_wal_keep_size, in bytes; negative: none
	oldest      *OpenTransaction
}

func (g *guard) read(ctx context.Context) (sight, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var (
		s                      sight
		restart, confirmed, at string
	)
	err := g.conn.QueryRow(ctx, `
		select pg_is_in_recovery(),
		       coalesce((select oid from pg_publication where pubname = $2), 0), s.slot_name is not null,
		       coalesce(s.active_pid, 0), coalesce(s.wal_status, ''), coalesce(s.restart_lsn, '0/0')::text,
		       coalesce(s.confirmed_flush_lsn, '0/0')::text,
		       case when pg_is_in_recovery() then '0/0' else pg_current_wal_lsn() end::text,
		       (select setting::bigint << 20 from pg_settings where name = 'max_slot_wal_keep_size')
		from (select 1) one left join pg_replication_slots s on s.slot_name = $1`, g.cfg.Slot, g.cfg.Publication).
		Scan(&s.standby, &s.publication, &s.found, &s.pid, &s.status, &restart, &confirmed, &at, &s.limit)
	for _, p := range []struct {
		to   *relay.LSN
		text string
	}{{&s.restart, restart}, {&s.confirmed, confirmed}, {&s.end, at}} {
		if err == nil {
			*p.to, err = relay.ParseLSN(p.text)
		}
	}
	if err != nil || !s.found {
		return s, wrap(err, "look at slot %q", g.cfg.Slot)
	}
	s.oldest, err = oldestTransaction(ctx, g.conn, g.cfg.OpenFor)
	return s, err
}

// oldestTransaction returns the transaction that has written and is open for longer
// than openFor, of whatever database: the log is one. Of other roles' sessions only
// those are seen that pg_read_all_stats shows.
func oldestTransaction(ctx context.Context, conn *pgx.Conn, openFor time.Duration) (*OpenTransaction, error) {
	rows, err := conn.Query(ctx, `
		select pid, '' as gid, coalesce(datname::text, ''), clock_timestamp() - xact_start as age
		from pg_stat_activity where backend_xid is not null and xact_start is not null and pid <> pg_backend_pid()
		union all
		select 0, gid, database::text, clock_timestamp() - prepared from pg_prepared_xacts
		order by age desc limit 1`)
	if err != nil {
		return nil, fmt.Errorf("look for open transactions: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[OpenTransaction])
	if err != nil || len(found) == 0 || found[0].Age < openFor {
		return nil, wrap(err, "look for open transactions")
	}
	return &found[0], nil
}

// checkPublication halts when the publication is gone or another one: rows that are
// written meanwhile cannot be decoded, or are not sent.
func (g *guard) checkPublication(s sight) error {
	was, from := g.publication, g.seen
	if s.publication != 0 {
		g.publication, g.seen = s.publication, s.end
	}
	switch {
	case was == 0 || was == s.publication || s.standby || !s.found:
		return nil
	case s.publication == 0:
		return publicationGone(g.cfg.Slot, g.cfg.Publication, fmt.Errorf("publication %q was dropped between %s and %s, and rows written since then cannot be decoded",
			g.cfg.Publication, from, s.end))
	}
	return relay.Halt("publication_replaced",
		fmt.Errorf("publication %q was dropped and made anew between %s and %s: changes that were written there before it listed their tables are not sent", g.cfg.Publication, from, s.end),
		"look with `relay doctor` whether it publishes what the mappings need, and start the relay again: it goes on, and halts with publication_missing where rows were written without a publication. "+
			"Another time use ALTER PUBLICATION")
}

// heartbeat writes something for the slot to be read past. It is not needed while
// the reader gets on by itself, and not while nobody writes log.
func (g *guard) heartbeat(ctx context.Context, s sight) {
	if g.cfg.Heartbeat <= 0 || g.cfg.Held == nil {
		return
	}
	held := g.cfg.Held()
	stuck := held != 0 && held == g.held && s.end > held+heartbeatWorthwhile
	g.held = held
	if !stuck || time.Since(g.beat) < g.cfg.Heartbeat {
		return
	}
	g.beat = time.Now()
	// In a transaction, because its end carries a position. Nobody waits for it.
	_, err := g.conn.Exec(ctx, `begin; set local synchronous_commit = off; select pg_logical_emit_message(true, `+literal(HeartbeatPrefix)+`, ''); commit`)
	if err != nil {
		g.log.DebugContext(ctx, "heartbeat not written", "error", err)
		return
	}
	g.beats++
}

// judge puts a look into words and numbers.
func (g *guard) judge(s sight) SlotHealth {
	h := SlotHealth{Status: s.status, Oldest: s.oldest, Budget: g.cfg.Budget, Beats: g.beats}
	if s.restart > 0 {
		h.Retained = int64(max(s.end, s.restart) - s.restart)
	}
	if s.confirmed > 0 {
		h.Behind = int64(max(s.end, s.confirmed) - s.confirmed)
	}
	limit := "the budget"
	if s.limit >= 0 && (h.Budget == 0 || s.limit < h.Budget) {
		h.Budget, limit = s.limit, "max_slot_wal_keep_size of the server, beyond which it is lost"
	}
	used := 0.0
	if h.Budget > 0 {
		used = float64(h.Retained) / float64(h.Budget)
	}
	switch {
	case s.status == "lost":
		h.Warning = fmt.Sprintf("slot %q is lost", g.cfg.Slot)
	case s.status == "unreserved":
		h.Warning = fmt.Sprintf("slot %q keeps %s of log and is about to be lost: raise max_slot_wal_keep_size now", g.cfg.Slot, megabytes(h.Retained))
	case used >= 1:
		h.Warning = fmt.Sprintf("slot %q keeps %s of log, more than the %s of %s", g.cfg.Slot, megabytes(h.Retained), megabytes(h.Budget), limit)
	case used >= budgetWarning:
		h.Warning = fmt.Sprintf("slot %q keeps %s of log, %d %% of the %s of %s", g.cfg.Slot, megabytes(h.Retained), int(used*100), megabytes(h.Budget), limit)
	case s.oldest != nil:
		h.Warning = "an open transaction keeps the log from being removed"
	}
	if h.Warning != "" && s.status != "lost" {
		h.Warning += "; " + g.cause(s, h)
	}
	return h
}

// cause says what holds the log.
func (g *guard) cause(s sight, h SlotHealth) string {
	switch {
	case s.oldest != nil && h.Retained > 2*h.Behind:
		return fmt.Sprintf("held by the %s (pg_terminate_backend ends it)", s.oldest)
	case s.oldest != nil && s.oldest.GID != "":
		return fmt.Sprintf("the %s holds it, too", s.oldest)
	case s.oldest != nil:
		return fmt.Sprintf("there is a %s", s.oldest)
	case s.pid == 0:
		return "nobody reads it"
	case h.Behind > h.Retained/2:
		return fmt.Sprintf("%s are not confirmed yet", megabytes(h.Behind))
	}
	return "it is released when the server has written its next checkpoint records"
}

// say logs a warning once, and that it is over.
func (g *guard) say(ctx context.Context, h SlotHealth) {
	kind := h.Status
	switch {
	case h.Budget > 0 && h.Retained >= h.Budget:
		kind += " over"
	case h.Budget > 0 && float64(h.Retained) >= budgetWarning*float64(h.Budget):
		kind += " near"
	}
	if h.Oldest != nil {
		kind += fmt.Sprintf(" %d %s", h.Oldest.PID, h.Oldest.GID)
	}
	if h.Warning == "" {
		kind = ""
	}
	if kind == g.said {
		return
	}
	attrs := []any{"retained_bytes", h.Retained, "unconfirmed_bytes", h.Behind, "budget_bytes", h.Budget, "wal_status", h.Status}
	if h.Oldest != nil {
		attrs = append(attrs, "pid", h.Oldest.PID, "age", h.Oldest.Age.Round(time.Second).String())
	}
	switch {
	case h.Warning == "":
		g.log.InfoContext(ctx, "the slot keeps little log again", attrs...)
	case h.Budget > 0 && h.Retained >= h.Budget, h.Status == "lost", h.Status == "unreserved":
		g.log.ErrorContext(ctx, "the slot keeps too much log", append(attrs, "finding", h.Warning)...)
	default:
		g.log.WarnContext(ctx, "log piles up on the server", append(attrs, "finding", h.Warning)...)
	}
	g.said = kind
}
