package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dot-do/relay/internal/ops"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgsource"
)

// partPublication is a part of /readyz once a mapped table has left the publication. It
// does not make the process unready: other tables flow.
const partPublication = "publication"

// tableWatch keeps the tables of mappings in the publication, and tells where in the log
// one of them was not in it.
type tableWatch struct {
	*session
	tables  []relay.TableNeed
	dormant []pgsource.Dormant
	known   map[string]bool      // were published when they were looked at last
	looked  relay.LSN            // where the log was before that look
	absent  map[string]relay.LSN // not published: from where on that may be so
}

// watchTables looks, before the source is opened and publishes what is missing, whether
// a table that was mapped where the slot stands is missing.
func (s *session) watchTables(ctx context.Context, catalog *relay.Catalog, cp *relay.Checkpoint) (w *tableWatch, err error) {
	w = &tableWatch{session: s, tables: catalog.Tables(), known: map[string]bool{}, absent: map[string]relay.LSN{}}
	if w.looked, err = s.store.WALPosition(ctx); err != nil || cp == nil {
		return w, err
	}
	earlier, err := s.store.AsOf(ctx, cp.Slot, cp.Confirmed)
	if err != nil || earlier == nil {
		return w, err
	}
	missing, err := s.store.Unpublished(ctx, s.cfg.Source.Publication, tableNames(earlier.Tables()))
	for _, name := range missing {
		w.absent[name] = cp.Confirmed
	}
	return w, err
}

func tableNames(needs []relay.TableNeed) []string {
	names := make([]string, len(needs))
	for i, need := range needs {
		names[i] = need.Name
	}
	return names
}

// run puts the tables of new mappings into the publication while the relay streams,
// those of dormant ones once they exist, and those that have left it: dropped tables do,
// and are often made again. It tries again while a lock or a missing right is in the way.
// The mapping is in force already; rows written once the table is published are sent.
func (w *tableWatch) run(ctx context.Context, src *pgsource.Source, changed <-chan []relay.TableNeed) error {
	w.published(src.Dormant())
	w.alarm(ctx, slices.Sorted(maps.Keys(w.absent)))
	w.back(ctx, nil)
	failed := false
	look := time.NewTicker(dormantEvery)
	defer look.Stop()
	for {
		select {
		case w.tables = <-changed:
		case <-look.C:
			if found := w.look(ctx); !failed && !found {
				continue
			}
		case <-ctx.Done():
			return nil
		}
		now, err := src.EnsureTables(ctx, w.tables)
		if failed = err != nil; failed {
			w.log.ErrorContext(ctx, "tables of mappings are not published, trying again", "error", err)
			look.Reset(refusedEvery)
			continue
		}
		look.Reset(dormantEvery)
		w.published(now)
		w.reportDormant(ctx, now)
		w.back(ctx, nil)
	}
}

// published notes that all tables are, but the dormant ones.
func (w *tableWatch) published(dormant []pgsource.Dormant) {
	w.dormant = dormant
	clear(w.known)
	for _, need := range w.tables {
		w.known[need.Name] = !slices.ContainsFunc(dormant, func(d pgsource.Dormant) bool { return d.Table == need.Name })
	}
}

// look reports whether there are tables to publish. One that was published when it was
// looked at last has left the publication since then, or was made anew.
func (w *tableWatch) look(ctx context.Context) (found bool) {
	at, err := w.store.WALPosition(ctx)
	var missing []string
	if err == nil {
		missing, err = w.store.Unpublished(ctx, w.cfg.Source.Publication, tableNames(w.tables))
	}
	if err != nil {
		if ctx.Err() == nil {
			w.log.DebugContext(ctx, "tables of mappings not looked up", "error", err)
		}
		return false
	}
	var left []string
	for _, name := range missing {
		if _, told := w.absent[name]; w.known[name] && !told {
			w.absent[name] = w.looked
			left = append(left, name)
		}
	}
	w.alarm(ctx, left)
	w.back(ctx, missing)
	w.looked = at
	return len(missing) > 0
}

// alarm tells of tables that are not in the publication.
func (w *tableWatch) alarm(ctx context.Context, tables []string) {
	for _, name := range tables {
		w.metrics.LeftPublication()
		w.log.WarnContext(ctx, "a mapped table is not in the publication: what is written to it raises no event until it is", "relation", name, "from_lsn", w.absent[name].String())
	}
	if len(tables) > 0 {
		w.report()
	}
}

// back tells of the range in which tables were absent that are not missing any more.
func (w *tableWatch) back(ctx context.Context, missing []string) {
	if len(w.absent) == 0 {
		return
	}
	to, err := w.store.WALPosition(ctx)
	if err != nil {
		return // at the next look
	}
	for _, name := range slices.Sorted(maps.Keys(w.absent)) {
		if slices.Contains(missing, name) {
			continue
		}
		w.log.WarnContext(ctx, "table was not in the publication and is again: rows written meanwhile are not in the stream",
			"relation", name, "from_lsn", w.absent[name].String(), "to_lsn", to.String(), "remedy", "relay backfill "+name+" --where … publishes the rows as they are")
		delete(w.absent, name)
	}
	w.report()
}

// report brings metric and /readyz up to date.
func (w *tableWatch) report() {
	w.metrics.Unpublished(len(w.absent))
	reason := ""
	if len(w.absent) > 0 {
		reason = fmt.Sprintf("not in the publication, so that changes raise no event: %s", strings.Join(slices.Sorted(maps.Keys(w.absent)), ", "))
	}
	w.health.Set(partPublication, ops.Streaming, reason)
}
