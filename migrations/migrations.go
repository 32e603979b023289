// Package migrations holds the database schema as pairs of SQL files, and runs them.
//
// NNN_noun.sql goes forward and NNN_noun_rollback.sql goes back. Each file is plain
// SQL in one transaction, so that it also runs without this package:
//
//	psql -v ON_ERROR_STOP=1 -f migrations/015_outbox.sql
//
// Forward files change nothing that is already there. A database migrated by psql
// is therefore taken over by Up, which runs every file once more and records it.
// A rollback sets the rows of its tables aside in the schema migration_backup,
// from where the forward file takes them back.
//
// Up and Down keep a table relay_migrations of what was run, do all the work of a
// migration and its record in one transaction, and hold an advisory lock on one
// session meanwhile: connect directly, not through a transaction pooler.
package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed *.sql
var files embed.FS

// samples is the version that a database with tables of its own is spared.
const samples = 1

// OneStep is the version to give Down to roll back the newest migration alone.
const OneStep = -1

// Options change how migrations run. The zero value is fit for use.
type Options struct {
	Samples  bool         // make the sample tables of 001 even on a database with tables of its own
	Progress func(Step)   // called after each migration, in order; default none
	Logger   *slog.Logger // told when another run is waited for; default slog.Default()
}

// Action is what a run did with a migration.
type Action string

// The actions of a Step.
const (
	Applied    Action = "applied"
	Skipped    Action = "skipped" // 001 on a database with tables of its own
	RolledBack Action = "rolled back"
)

// Step is one migration done.
type Step struct {
	Version  int
	Name     string // of the file, without .sql
	Action   Action
	Duration time.Duration
}

// StateName says how a migration and the database stand to each other.
type StateName string

// The states of a migration.
const (
	StateApplied StateName = "applied"
	StateSkipped StateName = "skipped" // Up with Options.Samples applies it
	StatePending StateName = "pending"
	StateChanged StateName = "changed" // applied, but from a file with other contents
	StateUnknown StateName = "unknown" // applied by a newer release
)

// State is one migration of this release or of the database.
type State struct {
	Version   int
	Name      string
	State     StateName
	AppliedAt time.Time // zero while pending
}

// migration is one pair of files.
type migration struct {
	version  int
	name     string // file name without .sql
	forward  string // SQL to run inside a transaction
	rollback string
	checksum string // of the forward file
}

var fileName = regexp.MustCompile(`^(\d{3})_[a-z0-9_]+$`)

const rollbackSuffix = "_rollback.sql"

// load reads the pairs in a directory, in ascending order of version.
func load(dir fs.FS) ([]migration, error) {
	files, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, file := range files {
		base, isRollback := strings.CutSuffix(file, rollbackSuffix)
		if isRollback {
			if !slices.Contains(files, base+".sql") {
				return nil, fmt.Errorf("%s: there is no %s.sql to roll back", file, base)
			}
			continue
		}
		m, err := loadPair(dir, strings.TrimSuffix(file, ".sql"))
		if err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && all[n-1].version == m.version {
			return nil, fmt.Errorf("%s and %s have the same number", all[n-1].name, m.name)
		}
		all = append(all, m) // Glob sorts by name, and the number leads
	}
	return all, nil
}

func loadPair(dir fs.FS, name string) (migration, error) {
	match := fileName.FindStringSubmatch(name)
	if match == nil {
		return migration{}, fmt.Errorf("%s.sql: a migration is named NNN_noun.sql", name)
	}
	version, err := strconv.Atoi(match[1])
	if err != nil {
		return migration{}, err
	}
	m := migration{version: version, name: name}
	forward, err := fs.ReadFile(dir, name+".sql")
	if err != nil {
		return migration{}, err
	}
	rollback, err := fs.ReadFile(dir, name+rollbackSuffix)
	if err != nil {
		return migration{}, err
	}
	sum := sha256.Sum256(forward)
	m.checksum = hex.EncodeToString(sum[:])
	if m.forward, err = body(name+".sql", string(forward)); err != nil {
		return migration{}, err
	}
	if m.rollback, err = body(name+rollbackSuffix, string(rollback)); err != nil {
		return migration{}, err
	}
	return m, nil
}

// body checks the shape of a file and blanks its begin and commit, so that it can
// run inside a caller's transaction with its line numbers kept.
func body(file, text string) (string, error) {
	if !strings.HasPrefix(text, "-- "+file+": ") {
		return "", fmt.Errorf("%s: line 1 must be \"-- %s: \" and the reason for the file", file, file)
	}
	lines := strings.Split(text, "\n")
	begin, commit := slices.Index(lines, "begin;"), slices.Index(lines, "commit;")
	if begin < 0 || commit < begin {
		return "", fmt.Errorf("%s: needs the lines \"begin;\" and \"commit;\", in this order", file)
	}
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		outside := i < begin || i > commit
		switch {
		case outside && trimmed != "" && !strings.HasPrefix(trimmed, "--"):
			return "", fmt.Errorf("%s:%d: a statement outside of begin and commit", file, i+1)
		case strings.HasPrefix(trimmed, `\`):
			return "", fmt.Errorf("%s:%d: psql commands are not SQL", file, i+1)
		case i != begin && i != commit && transactionLine.MatchString(trimmed):
			return "", fmt.Errorf("%s:%d: a file is one transaction", file, i+1)
		}
	}
	lines[begin], lines[commit] = "", ""
	return strings.Join(lines, "\n"), nil
}

var transactionLine = regexp.MustCompile(`(?i)^((begin|commit|rollback|abort)( work| transaction)?|start transaction|end (work|transaction));$`)
