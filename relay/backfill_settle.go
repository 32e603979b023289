package relay

import (
	"context"
	"slices"
)

// settle ends a backfill whose rows are all published. What is known of its chunks is
// kept until the slot is confirmed past them: until then the stream may lose them, and
// a later session has to read them again.
func (r *backfillRun) settle(ctx context.Context) error {
	if err := r.cfg.Backfills.FinishBackfill(ctx, r.job.ID, r.owner, BackfillDone, "", r.last); err != nil {
		return err
	}
	r.job.add(r.last)
	r.last = Progress{}
	r.log.InfoContext(ctx, "backfill done", "backfill", r.job.ID, "relation", r.job.Table, "rows", r.job.Rows, "events", r.job.Events)
	r.settling = append(r.settling, r)
	for len(r.settling) > settlingMost && ctx.Err() == nil {
		if err := r.forgetSettled(ctx); err != nil {
			return err
		}
		pause(ctx, lookEvery)
	}
	return nil
}

// forgetSettled lets go of the chunks of finished backfills that are safe in the stream.
func (b *Backfiller) forgetSettled(ctx context.Context) error {
	for _, r := range b.settling {
		numbers := r.settled()
		if len(numbers) == 0 {
			continue
		}
		if err := b.cfg.Backfills.ForgetChunks(ctx, r.job.ID, b.owner, numbers); err != nil {
			return err
		}
		for _, number := range numbers {
			delete(r.marks, number)
			b.cfg.Desk.forget(chunkID{r.job.ID, number})
		}
	}
	b.settling = slices.DeleteFunc(b.settling, func(r *backfillRun) bool { return len(r.marks) == 0 })
	return nil
}

func (b *Backfiller) settlingIDs() []string {
	ids := make([]string, len(b.settling))
	for i, r := range b.settling {
		ids[i] = r.job.ID
	}
	return ids
}
