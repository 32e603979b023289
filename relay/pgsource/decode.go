package pgsource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgoutput"
)

func isRow(kind byte) bool { return kind == 'I' || kind == 'U' || kind == 'D' }

func (r *reader) decoded(ctx context.Context, m pgoutput.Message, sent pgoutput.Timestamp) error {
	switch m := m.(type) {
	case *pgoutput.Insert:
		return r.row(ctx, relay.OpInsert, m.RelationOID, pgoutput.OldNone, nil, m.New)
	case *pgoutput.Update:
		return r.row(ctx, relay.OpUpdate, m.RelationOID, m.OldKind, m.Old, m.New)
	case *pgoutput.Delete:
		return r.row(ctx, relay.OpDelete, m.RelationOID, m.OldKind, m.Old, nil)
	case *pgoutput.Truncate:
		for _, oid := range m.RelationOIDs {
			if err := r.row(ctx, relay.OpTruncate, oid, pgoutput.OldNone, nil, nil); err != nil {
				return err
			}
		}
	case *pgoutput.Begin:
		if r.tx.open {
			return errors.New("begin inside a transaction")
		}
		r.s.catalog.at(m.XID)
		r.tx = transaction{open: true, xid: m.XID, final: relay.LSN(m.FinalLSN), time: m.CommitTime.Time()}
		r.behind = time.Duration(sent-m.CommitTime)*time.Microsecond > lagging
	case *pgoutput.Commit:
		return r.committed(m)
	case *pgoutput.Relation:
		rel, err := r.s.catalog.describe(ctx, m)
		if err != nil {
			return err
		}
		r.rels[m.OID] = rel
		return r.prune(ctx)
	case *pgoutput.Type:
		r.s.catalog.announce(m)
	case *pgoutput.Origin, *pgoutput.LogicalMessage:
		// Nothing here depends on them. They are no row changes and take no ordinal.
	default:
		r.unknown("change", byte(m.Kind()))
	}
	return nil
}

// prune forgets tables that were dropped, when there are many: some applications make
// tables and drop them all the time. Those that do not exist at some moment have no
// rows behind it, so they are forgotten once that moment of the log was read.
func (r *reader) prune(ctx context.Context) error {
	if len(r.dead) > 0 && r.tx.final > r.deadAt {
		for _, oid := range r.dead {
			delete(r.rels, oid)
			delete(r.s.catalog.keys, oid)
		}
		r.dead, r.pruneAt = nil, max(maxKept, 2*len(r.rels))
	}
	if len(r.rels) < r.pruneAt || len(r.dead) > 0 {
		return nil
	}
	r.pruneAt = 2 * len(r.rels)
	var err error
	r.dead, r.deadAt, err = r.s.catalog.gone(ctx, slices.Collect(maps.Keys(r.rels)))
	return err
}

func (r *reader) committed(m *pgoutput.Commit) error {
	if !r.tx.open || relay.LSN(m.CommitLSN) != r.tx.final {
		return fmt.Errorf("commit at %s without its begin", relay.LSN(m.CommitLSN))
	}
	end := relay.LSN(m.EndLSN)
	raise(&r.s.received, m.EndLSN)
	r.commit = max(r.commit, end)
	r.cur.Commit = r.commit
	r.urgent = r.urgent || r.tx.ordinal > 0 // its rows may have gone before it
	r.tx.open = false
	return nil
}

// row adds one row change to cur.
func (r *reader) row(ctx context.Context, op relay.Op, oid uint32, oldKind pgoutput.OldKind, oldRow, newRow pgoutput.Tuple) error {
	if !r.tx.open {
		return fmt.Errorf("%s outside of a transaction", op)
	}
	rel := r.rels[oid]
	if rel == nil {
		return fmt.Errorf("%s of relation %d, which was not described", op, oid)
	}
	if r.tx.ordinal == math.MaxUint32 {
		return fmt.Errorf("transaction %d has too many rows to be numbered", r.tx.xid)
	}
	if len(rel.composites) > 0 {
		if now := r.s.catalog.refresh(ctx, rel, newRow, oldRow); now != rel {
			rel, r.rels[oid] = now, now
		}
	}
	c := relay.Change{
		Position: relay.Position{CommitLSN: r.tx.final, Ordinal: r.tx.ordinal},
		XID:      r.tx.xid, CommitTime: r.tx.time, Op: op, Relation: rel.Relation,
	}
	var err error
	if c.Old, err = r.tuple(rel, oldKind, oldRow); err != nil {
		return fmt.Errorf("%s of %s: %w", op, rel.FullName(), err)
	}
	if c.New, err = r.tuple(rel, pgoutput.OldNone, newRow); err != nil {
		return fmt.Errorf("%s of %s: %w", op, rel.FullName(), err)
	}
	if oldKind == pgoutput.OldFull {
		rel.doubt(c.Old)
		// Even next to the full old row, an untouched out-of-line value is not sent again.
		for i := range c.New {
			if c.New[i].Kind == relay.Unavailable {
				c.New[i] = c.Old[i]
			}
		}
	}
	r.tx.ordinal++
	r.cur.Changes = append(r.cur.Changes, c)
	return nil
}

// tuple copies a decoded row image, whose values already lie in cur's memory.
func (r *reader) tuple(rel *relation, kind pgoutput.OldKind, src pgoutput.Tuple) (relay.Tuple, error) {
	if src == nil {
		return nil, nil
	}
	if len(src) != len(rel.Columns) {
		return nil, fmt.Errorf("a row of %d values for %d columns", len(src), len(rel.Columns))
	}
	dst := r.cur.tuple(len(src))
	for i, v := range src {
		switch v.Kind {
		case pgoutput.Text:
			dst[i] = relay.Value{Kind: relay.Text, Data: v.Data}
		case pgoutput.Null:
			dst[i] = relay.Value{Kind: relay.Null}
			if kind == pgoutput.OldKey {
				// Key columns are never null: this one is outside of the key, and unknown.
				dst[i].Kind = relay.Unavailable
			}
		case pgoutput.Unchanged:
			dst[i] = relay.Value{Kind: relay.Unavailable}
		default:
			return nil, fmt.Errorf("column %q came in a form that was not asked for", rel.Columns[i].Name)
		}
	}
	return dst, nil
}

// doubt marks the nulls of an old row as unknown, where the row may be one that
// holds only the key of a partition.
func (rel *relation) doubt(old relay.Tuple) {
	if !rel.partitioned {
		return
	}
	if !rel.bareNulls {
		for i := range old {
			if !rel.Columns[i].Key && old[i].Kind != relay.Null {
				return // more than the key: this row is full
			}
		}
	}
	for i := range old {
		if old[i].Kind == relay.Null {
			old[i].Kind = relay.Unavailable
		}
	}
}
