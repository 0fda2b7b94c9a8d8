# What the server does by itself changes no prompt and empties nothing: autovacuum, its ANALYZE, the truncation of a table's end,
# the freezing of old ids; nor do temporary tables, whose commits look like DDL.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;

my $node = new_server('autovacuum', "autovacuum = off\nautovacuum_naptime = 1s\nautovacuum_vacuum_threshold = 10\nautovacuum_analyze_threshold = 10\nautovacuum_vacuum_cost_delay = 0\n");
load_chat($node, 'chat');
sub sql { return $node->safe_psql('chat', shift); }

# A table whose second half is empty pages
sql(q{INSERT INTO users SELECT u, 1, repeat('x', 1000) FROM generate_series(1001, 3000) u; INSERT INTO tenants SELECT t, 'x' FROM generate_series(100, 200) t;
    DELETE FROM users WHERE user_id > 1000; DELETE FROM tenants WHERE id >= 100});
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact');
my $fill = 'SELECT count(*) FROM generate_series(1, 60) u, prompt_cache.get_or_build(u)';
is(sql("$fill WHERE source = 'memory'"), 60, 'all are in memory');
is(sql('SELECT prompt_cache.flush()'), 60, 'and in the table');
my $nonces = sql('SELECT sum(weight) FROM prompt_cache.tag_nonce');
my $size = sql(q{SELECT pg_relation_size('users')});
my $marks = q{SELECT invalidations FROM prompt_cache.stats WHERE namespace = 'prompt'};
my $before = sql($marks);

sql('ALTER SYSTEM SET autovacuum = on');
$node->reload;
ok($node->poll_query_until('chat', q{SELECT count(*) = 2 FROM pg_stat_user_tables WHERE relname IN ('users', 'tenants') AND autovacuum_count > 0 AND autoanalyze_count > 0}),
    'autovacuum has worked on both tables');
cmp_ok(sql(q{SELECT pg_relation_size('users')}), '<', $size, 'and has cut the end off');
is(sql("$fill WHERE source = 'memory'"), 60, 'all are in memory still');

sql(q{ALTER SYSTEM SET autovacuum = off});
$node->reload;
sql('VACUUM (FREEZE) users; VACUUM (FULL off) prompt_cache.tag_nonce; ANALYZE; VACUUM');
sql(join ' ', map { "CREATE TEMP TABLE scratch$_ (a int); DROP TABLE scratch$_;" } 1 .. 20);
$node->command_ok([ 'vacuumdb', '--all', '--freeze', '--analyze', '--quiet' ], 'vacuumdb');
is(sql("$fill WHERE source = 'memory'"), 60, 'nor do commands of the same kind empty anything');
is(sql($marks), $before, 'no mark was made');
is(sql('SELECT sum(weight) FROM prompt_cache.tag_nonce'), $nonces, 'and no nonce written');

# The same for the table of the durable tier
$node->restart;
is(sql("$fill WHERE source = 'database'"), 60, 'the rows in the table hold too');
is(exact($node, 'chat'), '60 of 60', 'all prompts are exact');

# It writes rows anew and freezes them, of which a standby's older snapshots are not told.
sql('VACUUM (FULL off, FULL) users');   # the last one counts
is(sql("$fill WHERE source = 'built'"), 60, 'VACUUM FULL counts as DDL');

$node->stop;
done_testing();
