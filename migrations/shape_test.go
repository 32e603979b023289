package migrations

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestEveryMigrationIsAPairOfOneTransactionEach(t *testing.T) {
	pairs, err := load(files)
	require.NoError(t, err)
	require.NotEmpty(t, pairs)
	for i, m := range pairs {
		require.NotContains(t, m.forward, "\nbegin;\n")
		require.NotContains(t, m.rollback, "\ncommit;\n")
		if i > 0 {
			require.Less(t, pairs[i-1].version, m.version)
		}
	}
}

func TestLoadRefusesAFileOfAnotherShape(t *testing.T) {
	const forward, back = "-- 022_x.sql: why.\nbegin;\nselect 1;\ncommit;\n", "-- 022_x_rollback.sql: why.\nbegin;\nselect 2;\ncommit;\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no rollback": {map[string]string{"022_x.sql": forward}, "open 022_x_rollback.sql"},
		"no forward":  {map[string]string{"022_x_rollback.sql": back}, "022_x_rollback.sql: there is no 022_x.sql to roll back"},
		"bad name":    {map[string]string{"22_x.sql": forward}, "22_x.sql: a migration is named NNN_noun.sql"},
		"same number": {
			map[string]string{
				"022_x.sql": forward, "022_x_rollback.sql": back,
				"022_y.sql": "-- 022_y.sql: why.\nbegin;\ncommit;\n", "022_y_rollback.sql": "-- 022_y_rollback.sql: why.\nbegin;\ncommit;\n",
			}, "022_x and 022_y have the same number",
		},
		"no reason":          {pair("begin;\nselect 1;\ncommit;\n", back), `line 1 must be "-- 022_x.sql: "`},
		"no transaction":     {pair("-- 022_x.sql: why.\nselect 1;\n", back), "needs the lines"},
		"outside":            {pair("-- 022_x.sql: why.\nset role x;\nbegin;\ncommit;\n", back), "022_x.sql:2: a statement outside"},
		"two transactions":   {pair("-- 022_x.sql: why.\nbegin;\nCOMMIT;\nbegin;\ncommit;\n", back), "022_x.sql:3: a file is one transaction"},
		"psql command":       {pair("-- 022_x.sql: why.\nbegin;\n\\set x 1\ncommit;\n", back), "022_x.sql:3: psql commands are not SQL"},
		"rollback misshapen": {pair(forward, "-- 022_x_rollback.sql: why.\nselect 2;\n"), "022_x_rollback.sql: needs the lines"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fstest.MapFS{}
			for file, text := range c.files {
				dir[file] = &fstest.MapFile{Data: []byte(text)}
			}
			_, err := load(dir)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func pair(forward, rollback string) map[string]string {
	return map[string]string{"022_x.sql": forward, "022_x_rollback.sql": rollback}
}

func TestRunningAFileKeepsItsLineNumbers(t *testing.T) {
	sql, err := body("022_x.sql", "-- 022_x.sql: why.\nbegin;\ndo $$\nbegin\nend\n$$;\ncommit;\n")
	require.NoError(t, err)
	require.Equal(t, "-- 022_x.sql: why.\n\ndo $$\nbegin\nend\n$$;\n\n", sql)
}
