// Package pgsource is the Postgres side of capture: it prepares the publication
// and the slot, streams pgoutput and yields batches of row changes, as
// relay.Source asks.
//
//	Open ─▶ Slot, snapshot readable ─▶ Start ─▶ Next … Confirm … ─▶ Close
//
// Two goroutines run between Start and Close. The reader decodes, and hands over
// batches through a short bounded queue; when the queue is full it stops reading
// and the server waits. The reporter tells the server what is confirmed, on a
// timer and on demand, whether or not anybody calls Next.
//
// Promises:
//   - A change has the same Position and the same values whenever it is read
//     again: ordinals count the raw row changes of a transaction, before anything
//     is left out.
//   - Nothing is confirmed but what Confirm was told, never backwards, and all
//     three positions of a status say so.
//   - Memory is bounded by batches, not by transactions. A row larger than a batch
//     travels alone, and its memory is not kept.
//   - A slot that is missing where one is expected, lost, or in foreign hands is
//     reported with the affected range; it is never made anew in silence. A
//     publication is extended, never dropped or narrowed.
//   - What the role may not do is reported at once, as the SQL that a superuser
//     has to run.
package pgsource
