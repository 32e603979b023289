package pgsource

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dot-do/relay/relay"
)

// SQLSTATEs that are told apart. Messages are not: the server may be localised.
const (
	codeUniqueViolation       = "23505" // in a catalog
	codeInvalidAuthorization  = "28000"
	codeInvalidPassword       = "28P01"
	codeInvalidCatalogName    = "3D000"
	codeInsufficientPrivilege = "42501"
	codeUndefinedObject       = "42704"
	codeDuplicateObject       = "42710"
	codeTooManyConnections    = "53300"
	codeLimitExceeded         = "53400"
	codeNotInRequiredState    = "55000"
	codeObjectInUse           = "55006"
	codeLockNotAvailable      = "55P03"
	codeUndefinedFile         = "58P01"
	codeInternal              = "XX000" // "tuple concurrently updated" has no code of its own
)

// errStopping is returned when the server only waits for us to go away.
var errStopping = errors.New("the server is shutting down")

var errClosed = errors.New("source is closed")

func setupError(found, remedy string) error {
	return &relay.SetupError{Err: errors.New(found), Remedy: remedy}
}

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// startError explains why START_REPLICATION was refused.
func (s *Source) startError(pg *pgconn.PgError) error {
	err := fmt.Errorf("start replication from slot %q: %w", s.cfg.Slot, pg)
	switch pg.Code {
	case codeObjectInUse:
		return fmt.Errorf("%w: %w", err, relay.ErrSlotActive)
	case codeUndefinedObject:
		return s.cfg.slotMissing()
	case codeNotInRequiredState, codeUndefinedFile:
		return s.lost(err)
	case codeTooManyConnections:
		return fmt.Errorf("%w; raise max_wal_senders", err)
	}
	return err
}

// streamError explains an error that ended a running stream.
func (s *Source) streamError(pg *pgconn.PgError) error {
	err := fmt.Errorf("stream from slot %q: %w", s.cfg.Slot, pg)
	switch pg.Code {
	case codeUndefinedObject:
		return s.publicationMissing(err)
	case codeNotInRequiredState, codeUndefinedFile:
		return s.lost(err)
	}
	return err
}

// noticeError finds, among the notices of a stream, the one with which servers
// from version 18 on leave out a publication that they do not find: the changes of
// its tables would be missing in silence.
func (s *Source) noticeError(notice *pgconn.PgError) error {
	if notice.Code != codeNotInRequiredState {
		return nil
	}
	return s.publicationMissing(fmt.Errorf("stream from slot %q: %w", s.cfg.Slot, notice))
}

func (s *Source) lost(err error) error {
	return relay.Halt("slot_lost",
		fmt.Errorf("%w; changes after %s are no longer in the log", err, relay.LSN(s.confirmed.Load())), lostRemedy)
}

func (s *Source) publicationMissing(err error) error {
	return publicationGone(s.cfg.Slot, s.cfg.Publication, fmt.Errorf("%w; changes from %s on cannot be decoded", err, relay.LSN(s.confirmed.Load())))
}

func publicationGone(slot, publication string, err error) error {
	return relay.Halt("publication_missing", err,
		fmt.Sprintf("publication %q has to exist at every point of the log that the slot still holds: recreating it helps only for later changes. "+
			"Create it with `relay setup`, drop the slot with SELECT pg_drop_replication_slot(%s); and run `relay run --accept-gap`",
			publication, literal(slot)))
}

const (
	lostRemedy = "raise max_slot_wal_keep_size or set it to -1 against the next time, and run `relay run --accept-gap` to go on from now without that range"
	gapRemedy  = "bring the slot back with the database it belongs to, or run `relay run --accept-gap` to make a new one and go on from now"
)

func (c Config) slotMissing() error {
	from := "since the last checkpoint"
	if c.Published > 0 {
		from = "after " + c.Published.String()
	}
	return relay.Halt("slot_missing", fmt.Errorf("slot %q is gone: changes %s can no longer be read", c.Slot, from), gapRemedy)
}
