package relay

import (
	"encoding/json"

	"github.com/dot-do/relay/filters"
)

// bookkeeping columns of zapier_webhooks that the relay itself writes; a change of
// these alone announces nothing.
func isBookkeeping(column string) bool {
	switch column {
	case "total_triggers", "success_count", "failure_count", "consecutive_failures",
		"last_triggered_at", "last_success_at", "last_failure_at", "updated_at":
		return true
	}
	return false
}

// announce turns a change of zapier_webhooks into control messages: the row's id,
// its transaction and whether it begins or ceases to want events here. Neither
// values nor secrets leave the database this way.
func announce(dst []Event, buf *Buffer, c *Change) []Event {
	id := c.Relation.Column("id")
	a := Announcement{Op: c.Op.String(), XID: c.XID}
	switch c.Op {
	case OpTruncate:
	case OpDelete:
		a.ID = textOf(c.Old, id)
	case OpInsert, OpRead:
		a.ID, a.Fresh, a.Paused = textOf(c.New, id), true, !isActive(c, c.New)
	case OpUpdate:
		changed := changedColumns(nil, c)
		if !concernsDelivery(c.Relation, changed) {
			return dst
		}
		a.ID = textOf(c.New, id)
		if old := textOf(c.Old, id); old != "" && old != a.ID {
			dst = appendAnnouncement(dst, buf, c, c.Position, Announcement{ID: old, Op: OpDelete.String(), XID: c.XID})
			next := c.Position
			next.Index++
			return appendAnnouncement(dst, buf, c, next, Announcement{
				ID: a.ID, Op: OpInsert.String(), Fresh: true, Paused: !isActive(c, c.New), XID: c.XID,
			})
		}
		a.Fresh = wantsOthers(c, changed)
		if i := c.Relation.Column("status"); i >= 0 && changed[i] == filters.Yes {
			was, is := isActive(c, c.Old), isActive(c, c.New)
			a.Paused, a.Resumed = was && !is, !was && is
		}
	}
	return appendAnnouncement(dst, buf, c, c.Position, a)
}

func concernsDelivery(rel *Relation, changed []filters.Verdict) bool {
	for i, v := range changed {
		if v != filters.No && !isBookkeeping(rel.Columns[i].Name) {
			return true
		}
	}
	return false
}

// isActive reports whether the change's old or new row is active.
func isActive(c *Change, row Tuple) bool {
	return textOf(row, c.Relation.Column("status")) == "active"
}

// wantsOthers reports whether the row wants other events than before, from here on.
func wantsOthers(c *Change, changed []filters.Verdict) bool {
	for _, name := range []string{"event_type", "user_id", "tenant_id"} {
		if i := c.Relation.Column(name); i >= 0 && changed[i] == filters.Yes {
			return true
		}
	}
	return false
}

func appendAnnouncement(dst []Event, buf *Buffer, c *Change, pos Position, a Announcement) []Event {
	body, err := json.Marshal(a)
	if err != nil { // a struct of strings, bools and a number
		return dst
	}
	return append(dst, Event{
		Type: ControlWebhooks, Position: pos, Table: c.Relation.FullName(), Key: a.ID,
		Body: buf.keep(append(buf.begin(), body...)), OccurredAt: c.CommitTime, CommittedAt: c.CommitTime,
	})
}
