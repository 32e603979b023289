package pgsource

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dot-do/relay/relay"
)

var _ relay.Source = (*Source)(nil)

// Source streams one slot, once. After an error of Next it is closed and another
// one is opened.
type Source struct {
	cfg     Config
	log     *slog.Logger
	slot    relay.Slot
	dormant []Dormant

	deadAfter time.Duration

	repl    *pgconn.PgConn // until Start takes the connection over
	catalog *catalog       // of Open, then of the reader

	out       *handoff
	wire      *wire // from Start on
	received  atomic.Uint64
	confirmed atomic.Uint64
	skipped   atomic.Uint64
	asked     chan struct{} // the server wants a status
	moved     chan struct{} // confirmed has moved

	life   context.Context // ends with Close
	end    context.CancelFunc
	wg     sync.WaitGroup
	closed sync.Once
}

// Open connects, prepares publication and replica identities, and finds or creates
// the slot. The caller must Close the source.
//
// Errors: *relay.SetupError for what a person has to change, *relay.HaltError for
// changes that can no longer be read, relay.ErrSlotActive while another process
// reads the slot. Any other error may pass.
func Open(ctx context.Context, cfg Config) (*Source, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Source{
		cfg: cfg, log: cfg.Logger, out: newHandoff(), deadAfter: deadAfter,
		asked: make(chan struct{}, 1), moved: make(chan struct{}, 1),
	}
	s.life, s.end = context.WithCancel(context.Background())
	if err := s.open(ctx); err != nil {
		s.hangUp(ctx)
		return nil, err
	}
	return s, nil
}

func (s *Source) open(ctx context.Context) error {
	conn, err := connectSQL(ctx, s.cfg.URL)
	if err != nil {
		return err
	}
	s.catalog = &catalog{url: s.cfg.URL, conn: conn}
	server, err := inspectServer(ctx, conn)
	if err != nil {
		return err
	}
	if err := server.usable(); err != nil {
		return err
	}
	state, err := inspectSlot(ctx, conn, s.cfg.Slot)
	if err != nil {
		return err
	}
	create, err := state.decide(s.cfg)
	if err != nil {
		return err
	}
	if create && !state.found {
		if err := server.roomForSlot(); err != nil {
			return err
		}
	}
	steps, err := ensure(ctx, conn, s.cfg, pieces{role: true})
	if err != nil {
		return err
	}
	s.dormant = steps.Dormant
	if s.repl, err = connectReplication(ctx, s.cfg.URL, s.cfg.Slot); err != nil {
		return err
	}
	return s.prepareSlot(ctx, conn, state, create)
}

// prepareSlot fills in s.slot, and makes the slot when asked to.
func (s *Source) prepareSlot(ctx context.Context, conn *pgx.Conn, state slotState, create bool) error {
	if err := s.keepUpWith(ctx); err != nil {
		return err
	}
	system, err := pglogrepl.IdentifySystem(ctx, s.repl)
	if err != nil {
		return fmt.Errorf("identify the server: %w", err)
	}
	s.slot = relay.Slot{
		Name: s.cfg.Slot, SystemID: system.SystemID, Timeline: system.Timeline, Confirmed: state.confirmed,
	}
	if s.slot.Forks, err = s.forks(ctx); err != nil {
		return err
	}
	if create {
		if state.found {
			if _, err := conn.Exec(ctx, "select pg_drop_replication_slot($1)", s.cfg.Slot); err != nil {
				return fmt.Errorf("drop the lost slot %q: %w", s.cfg.Slot, err)
			}
		}
		if err := s.createSlot(ctx); err != nil {
			return err
		}
	}
	s.confirmed.Store(uint64(s.slot.Confirmed))
	return nil
}

// keepUpWith shortens the status interval where the server is less patient.
func (s *Source) keepUpWith(ctx context.Context) error {
	rows, err := s.repl.Exec(ctx, "SHOW wal_sender_timeout").ReadAll()
	if err != nil || len(rows) != 1 || len(rows[0].Rows) != 1 {
		return fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	// Postgres prints "1min", "2s", "500ms" or "0".
	text := string(rows[0].Rows[0][0])
	for suffix, unit := range map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "min": time.Minute} {
		var n int64
		var rest string
		if _, err := fmt.Sscanf(text, "%d%s", &n, &rest); err == nil && rest == suffix && n > 0 {
			s.cfg.StatusInterval = min(s.cfg.StatusInterval, time.Duration(n)*unit/4)
		}
	}
	return nil
}

// createSlot makes the slot with an exported snapshot. It waits until every
// transaction that is now running has ended.
func (s *Source) createSlot(ctx context.Context) error {
	const patience = 5 * time.Second
	slow := time.AfterFunc(patience, func() {
		s.log.WarnContext(ctx, "slot creation is waiting for running transactions to end")
	})
	defer slow.Stop()
	results, err := s.repl.Exec(ctx, "CREATE_REPLICATION_SLOT "+quote(s.cfg.Slot)+" LOGICAL pgoutput EXPORT_SNAPSHOT").ReadAll()
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("create slot %q: %w", s.cfg.Slot, context.Cause(ctx))
	case hasCode(err, codeDuplicateObject):
		return fmt.Errorf("create slot %q: %w: %w", s.cfg.Slot, err, relay.ErrSlotActive)
	case hasCode(err, codeLimitExceeded):
		return &relay.SetupError{
			Err:    fmt.Errorf("create slot %q: %w", s.cfg.Slot, err),
			Remedy: "drop a slot that nobody reads, or raise max_replication_slots and restart the server",
		}
	case err != nil:
		return fmt.Errorf("create slot %q: %w", s.cfg.Slot, err)
	case len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 3:
		return fmt.Errorf("create slot %q: unexpected answer", s.cfg.Slot)
	}
	row := results[0].Rows[0]
	start, err := relay.ParseLSN(string(row[1]))
	if err != nil {
		return fmt.Errorf("create slot %q: %w", s.cfg.Slot, err)
	}
	s.slot.Created, s.slot.Confirmed, s.slot.Snapshot = true, start, string(row[2])
	s.log.InfoContext(ctx, "slot created", "lsn", start.String())
	return nil
}

// Slot tells what was found, or made, when the source was opened.
func (s *Source) Slot() relay.Slot { return s.slot }

// Dormant lists the mapped tables that could not be published when the source was
// opened.
func (s *Source) Dormant() []Dormant { return s.dormant }

// Skipped counts messages of the stream that were of no known kind.
func (s *Source) Skipped() uint64 { return s.skipped.Load() }

// hangUp closes what Open had opened.
func (s *Source) hangUp(ctx context.Context) {
	s.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if s.repl != nil {
		_ = s.repl.Close(ctx) // nothing was in flight
	}
	if s.catalog != nil {
		closeSQL(ctx, s.catalog.conn)
	}
}
