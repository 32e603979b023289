package pgtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/internal/pgproc"
	"github.com/dot-do/relay/internal/pgtest"
)

func TestAStandbyFollowsItsPrimaryUntilItIsPromoted(t *testing.T) {
	primary := pgtest.NewCluster(t, pgtest.Options{})
	db := primary.New(t)
	db.Exec("create table t (id int); insert into t values (1)")
	standby := primary.Standby(t)
	copied := standby.Database(t, db)
	db.Exec("insert into t values (2)")
	require.Eventually(t, func() bool { return pgtest.One[int](copied, "select count(*) from t") == 2 }, 10*time.Second, 10*time.Millisecond)
	primary.Stop(pgproc.Immediate)
	standby.Promote(copied)
	copied.Exec("insert into t values (3)")
	require.Equal(t, []int{1, 2, 3}, pgtest.All[int](copied, "select id from t order by id"))
}
