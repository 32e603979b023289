package pgtest_test

import (
	"context"
	"fmt"
	"os"

	"github.com/dot-do/relay/internal/pgproc"
)

const orphanEnv = "PGTEST_ORPHAN"

// orphan is a process that starts a server in dir, prints its URL and waits to be killed.
func orphan(dir string) {
	s, err := pgproc.Start(context.Background(), pgproc.Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(s.URL("postgres"))
	<-s.Done()
}
