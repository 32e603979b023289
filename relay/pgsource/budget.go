package pgsource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dot-do/relay/relay"
)

// act follows the policy when the budget was exceeded for long enough and what is
// kept has not become less.
func (g *guard) act(ctx context.Context, s sight, h SlotHealth) error {
	if h.Budget <= 0 || h.Retained < h.Budget || h.Status == "lost" {
		g.over = time.Time{}
		return nil
	}
	if g.over.IsZero() || h.Retained < g.least {
		g.over, g.least = time.Now(), h.Retained
	}
	if g.cfg.Policy == PolicyWarn || time.Since(g.over) < g.cfg.Patience {
		return nil
	}
	if g.cfg.Policy == PolicyDropSlot {
		if err := g.drop(ctx); err != nil {
			g.log.ErrorContext(ctx, "the slot is not dropped, trying again", "error", err)
			return nil
		}
		return relay.Halt("wal_budget", fmt.Errorf("%s; the slot was dropped, as source.wal_policy says: changes after %s are lost for the relay", h.Warning, s.confirmed), gapRemedy)
	}
	return relay.Halt("wal_budget", fmt.Errorf("%s; the slot still keeps it, from %s to %s", h.Warning, s.restart, s.end),
		fmt.Sprintf("find out what holds it and start the relay again, with a larger RELAY_WAL_BUDGET if it has to catch up first; to give the changes after %s up, "+
			"SELECT pg_drop_replication_slot(%s); and run `relay run --accept-gap`", s.confirmed, literal(g.cfg.Slot)))
}

// drop ends whoever reads the slot, and drops it before they are back.
func (g *guard) drop(ctx context.Context) error {
	const attempts = 50
	var err error
	for range attempts {
		_, err = g.conn.Exec(ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active_pid is not null`, g.cfg.Slot)
		if err == nil {
			_, err = g.conn.Exec(ctx, `select pg_drop_replication_slot($1)`, g.cfg.Slot)
		}
		if err == nil || hasCode(err, codeUndefinedObject) {
			return nil
		}
		if !hasCode(err, codeObjectInUse) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errors.Join(errors.New("drop the slot by policy"), err)
}

// megabytes is how operators count log.
func megabytes(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%d kB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%d GB", n>>30)
}
