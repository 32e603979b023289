package pgsource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dot-do/relay/relay"
)

// slotState is a row of pg_replication_slots, seen from the current database.
type slotState struct {
	found     bool
	plugin    string
	database  string
	current   string // the database we are in
	pid       int32  // of the walsender that reads it; 0: none
	status    string // wal_status
	reason    string // invalidation_reason, from version 17 on
	twoPhase  bool   // prepared transactions are sent before anybody knows whether they will be committed
	confirmed relay.LSN
	end       relay.LSN // of the log
}

func inspectSlot(ctx context.Context, conn *pgx.Conn, name string) (slotState, error) {
	st := slotState{found: true}
	var confirmed, end string
	// A standby has no current position to ask for; it is refused elsewhere.
	err := conn.QueryRow(ctx, `
		select coalesce(plugin::text, ''), coalesce(database::text, ''), current_database()::text, coalesce(active_pid, 0),
		       coalesce(wal_status, ''), coalesce(to_jsonb(s) ->> 'invalidation_reason', ''), two_phase,
		       coalesce(confirmed_flush_lsn, '0/0')::text,
		       case when pg_is_in_recovery() then '0/0' else pg_current_wal_lsn() end::text
		from pg_replication_slots s where slot_name = $1`, name).
		Scan(&st.plugin, &st.database, &st.current, &st.pid, &st.status, &st.reason, &st.twoPhase, &confirmed, &end)
	if errors.Is(err, pgx.ErrNoRows) {
		return slotState{}, nil
	}
	if err == nil {
		st.confirmed, err = relay.ParseLSN(confirmed)
	}
	if err == nil {
		st.end, err = relay.ParseLSN(end)
	}
	return st, wrap(err, "inspect slot %q", name)
}

// decide says whether a slot is to be created, in place of a lost one if there is
// one, or why the slot cannot be used.
func (st slotState) decide(cfg Config) (create bool, err error) {
	switch {
	case !st.found:
		return st.decideMissing(cfg)
	case st.plugin == "":
		return false, setupError(fmt.Sprintf("slot %q is a physical slot", cfg.Slot), "choose another RELAY_SLOT")
	case st.database != st.current:
		return false, setupError(fmt.Sprintf("slot %q belongs to database %q, this is %q", cfg.Slot, st.database, st.current),
			"choose another RELAY_SLOT: slot names are shared by all databases of a server")
	case st.plugin != "pgoutput":
		return false, setupError(fmt.Sprintf("slot %q was made for plugin %q", cfg.Slot, st.plugin), "choose another RELAY_SLOT")
	case st.twoPhase:
		return false, setupError(fmt.Sprintf("slot %q was made with two_phase: it sends prepared transactions before they are committed", cfg.Slot),
			"choose another RELAY_SLOT, and let the relay make it")
	case st.status == "lost" || st.reason != "":
		if cfg.AcceptGap {
			return true, nil
		}
		reason := "the server removed log that it still needed"
		if st.reason != "" {
			reason = "the server invalidated it: " + st.reason
		}
		return false, relay.Halt("slot_lost", fmt.Errorf("slot %q is lost, %s; changes between %s and %s can no longer be read",
			cfg.Slot, reason, st.confirmed, st.end), lostRemedy)
	case st.pid != 0:
		return false, fmt.Errorf("slot %q is read by server process %d: %w", cfg.Slot, st.pid, relay.ErrSlotActive)
	}
	return false, nil
}

func (st slotState) decideMissing(cfg Config) (create bool, err error) {
	switch {
	case cfg.ExpectSlot && !cfg.AcceptGap:
		return false, cfg.slotMissing()
	case !cfg.CreateSlot && !cfg.AcceptGap:
		return false, setupError(fmt.Sprintf("slot %q does not exist", cfg.Slot), "run `relay setup`")
	}
	return true, nil
}

const farewell = 5 * time.Second

// closeSQL closes in bounded time, also when ctx has ended.
func closeSQL(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	_ = conn.Close(ctx) // nothing was in flight
}
