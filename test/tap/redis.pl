# The Redis tier on one server: settings and their files, what lies in Redis, and exact answers whatever Redis has lost,
# kept, replayed, swapped or damaged, and however it fails.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $node = new_server('redis', "autovacuum = off\nprompt_cache.redis_timeout = '1s'\n");
load_chat($node, 'chat');
my $count = 60;

sub sql { return $node->safe_psql('chat', shift); }
# No tier but Redis may answer.
sub remote { return sql("SET prompt_cache.memory = off; SET prompt_cache.database = off; $_[0]"); }
sub sources { return remote("SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) AS n FROM users, prompt_cache.get_or_build(user_id) GROUP BY 1) s"); }
sub remote_exact { return remote(q{
        SELECT count(*) FILTER (WHERE prompt_cache.prompt(user_id) IS NOT DISTINCT FROM prompt_cache.build(user_id)) || ' of ' || count(*) FROM users}); }
sub health { return sql("SELECT prompt_cache.health() #>> '{tiers,redis,$_[0]}'"); }
sub counted { my $path = join ',', @_; return sql("SELECT (prompt_cache.health() #>> '{tiers,redis,$path}')::bigint"); }
sub configure
{
    my %settings = @_;
    $node->safe_psql('postgres', "ALTER SYSTEM SET prompt_cache.$_ = '$settings{$_}'") for sort keys %settings;
    $node->reload;
    sleep 0.3;
    return;
}
sub log_end { return -s $node->logfile; }
sub log_since { return substr slurp_file($node->logfile), shift; }
# The breaker is closed by the worker alone.
sub used_again { my $when = shift; return ok($node->poll_query_until('chat', q{SELECT prompt_cache.health() #>> '{tiers,redis,state}' = 'on'}), "$when: Redis is used again"); }
sub private_file
{
    my ($name, $text) = @_;
    my $path = $node->data_dir . "/$name";
    open my $file, '>', $path or die $!;
    print $file $text;
    close $file;
    chmod 0600, $path;
    return $path;
}

# Off at first
is(health('state'), 'off', 'off while there is no URL');
is(sources(), "built $count", 'everything is built');

# URLs
for my $bad ('http://host', 'redis://user:word@host', 'redis://host:0', 'unix://relative', 'redis://')
{
    my ($code, undef, $err) = $node->psql('postgres', "ALTER SYSTEM SET prompt_cache.redis_url = '$bad'");
    like($err, qr/invalid value for parameter.*DETAIL:  Not the URL of a Redis/s, "refused: $bad");
}
my (undef, undef, $tls) = $node->psql('postgres', q{ALTER SYSTEM SET prompt_cache.redis_url = 'rediss://host:6379/0'});
SKIP:
{
    skip 'this build has TLS', 1 if $tls eq '';
    like($tls, qr/has no TLS.*HINT/s, 'rediss is refused with a hint where there is no TLS');
}
$node->safe_psql('postgres', 'ALTER SYSTEM RESET prompt_cache.redis_url');
my $since = log_end();
$node->append_conf('postgresql.conf', "prompt_cache.redis_url = 'redis:/oops'");
$node->reload;
sleep 0.3;
like(log_since($since), qr/invalid value for parameter "prompt_cache.redis_url".*\n.*Not the URL/, 'a bad URL in the file is said at reload');
is(health('state'), 'off', 'and leaves the tier off');
is(remote_exact(), "$count of $count", 'answers are exact');

# On: by socket and by port
configure(redis_url => $redis->url);
is(health('state'), 'on', 'on with a socket');
is(sources(), "built $count", 'built once');
is(sources(), "redis $count", 'then answered by Redis');
is(remote_exact(), "$count of $count", 'exactly');
is(sql(q{SELECT count(*) FROM prompt_cache.verify()}), '0', 'verify() finds nothing');
is(remote('SELECT source, prompt IS NULL FROM prompt_cache.get_or_build(1234)'), 'built|t', 'an absent user');
is(remote('SELECT source, prompt IS NULL FROM prompt_cache.get_or_build(1234)'), 'redis|t', 'is known to be absent');
is(sql(q{SELECT hits_redis > 100 AND misses >= hits_redis FROM prompt_cache.stats WHERE namespace = 'prompt'}), 't', 'stats counts what Redis has answered');
like(remote(q{SELECT string_agg(e, ' ') FROM prompt_cache.explain('prompt', '7') e}), qr/user layer "7": from Redis/, 'explain() names Redis');
$since = log_end();
remote('SET prompt_cache.log_lookups = on; SELECT prompt_cache.prompt(7)');
like(log_since($since), qr/user "7" from redis in \d+ us/, 'log_lookups too');
configure(redis_url => $redis->tcp_url . '/3');
is(sources(), "built $count", 'another database of Redis, by port');
is(sources(), "redis $count", 'and answered');
configure(redis_url => "redis://localhost:$redis->{port}/3");
for (1 .. 100) { last if remote('SELECT source FROM prompt_cache.get_or_build(7)') eq 'redis'; sleep 0.1; }
is(sources(), "redis $count", 'a name is resolved by the worker');
configure(redis_url => $redis->url);

# Fills memory; what memory has is not asked of Redis.
$node->restart;
used_again('after a restart');
is(source_of($node, 'chat', 2), 'redis', 'after a restart Redis answers');
is(source_of($node, 'chat', 2), 'memory', 'and has filled memory');
is(exact($node, 'chat'), "$count of $count", 'all answers are exact');

# Changes
sql(q{UPDATE users SET system_prompt = 'changed' WHERE user_id = 2});
like(remote('SELECT source, prompt FROM prompt_cache.get_or_build(2)'), qr/^built\|.*changed$/s, 'a change is seen');
like(remote('SELECT source, prompt FROM prompt_cache.get_or_build(2)'), qr/^redis\|.*changed$/s, 'and stored');
like(remote(q{BEGIN; UPDATE users SET system_prompt = 'mine' WHERE user_id = 2; SELECT source, prompt FROM prompt_cache.get_or_build(2); ROLLBACK}), qr/^built\|.*mine$/s, 'an own change is built');
like(remote('SELECT source, prompt FROM prompt_cache.get_or_build(2)'), qr/^redis\|.*changed$/s, 'and nobody else has it');
sql(q{UPDATE tenants SET system_prompt = 'tenant changed' WHERE id = 3});
is(remote_exact(), "$count of $count", 'a change of a tenant is seen');
my $old = $node->background_psql('chat');
$old->query_safe('SET prompt_cache.memory = off; SET prompt_cache.database = off; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT prompt_cache.prompt(3)');
sql(q{UPDATE users SET system_prompt = 'newer' WHERE user_id = 3});
like(remote('SELECT prompt_cache.prompt(3)'), qr/newer$/, 'a newer text is in Redis');
is($old->query_safe('SELECT source, prompt = prompt_cache.build(3) FROM prompt_cache.get_or_build(3)'), 'built|t', 'an older snapshot builds the old one');
is($old->query_safe('SELECT source, prompt = prompt_cache.build(3) FROM prompt_cache.get_or_build(3)'), 'redis|t', 'and finds it again');
like(remote('SELECT source, prompt FROM prompt_cache.get_or_build(3)'), qr/^built\|.*newer$/s, 'nobody else takes it');
$old->query_safe('COMMIT');
$old->quit;
sql('ALTER TABLE users DISABLE TRIGGER ALL');
sql(q{UPDATE users SET system_prompt = 'unnoticed' WHERE user_id = 4});
is(remote_exact(), "$count of $count", 'without triggers nothing is taken');
sql('SELECT prompt_cache.flush()');
sql('ALTER TABLE users ENABLE TRIGGER ALL; SELECT prompt_cache.flush()');
is(remote_exact(), "$count of $count", 'nor after they are back');
sql(q{ALTER TABLE users SET UNLOGGED});
is(sources(), "built $count", 'unlogged sources are in memory only');
sql(q{ALTER TABLE users SET LOGGED});
sources();
is(sources(), "redis $count", 'logged ones are in Redis again');

# What lies there
sql(q{INSERT INTO users VALUES (101, 1, repeat('The same words again. ', 2000)), (102, 1, (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 1000) g)),
    (103, 1, repeat('x', 2 * 1024 * 1024)), (104, 1, repeat('🙂 שלום ', 1000))});
remote('SELECT prompt_cache.prompt(user_id) FROM users WHERE user_id > 100');
is(remote('SELECT string_agg(source, $$ $$ ORDER BY user_id) FROM users, prompt_cache.get_or_build(user_id) WHERE user_id > 100'), 'redis redis built redis', 'large values come back; those over max_value_size are not stored');
is(remote_exact(), ($count + 4) . ' of ' . ($count + 4), 'exactly');
my @sizes = sort { $a <=> $b } map { $redis->cli('STRLEN', $_) } split /\n/, $redis->cli('--scan', '--pattern', 'prompt_cache:*');
cmp_ok($sizes[-1], '>', 32000, 'what does not shrink is stored as it is');
cmp_ok($sizes[-2], '<', 20000, 'what does is packed');
like($redis->cli('TTL', (split /\n/, $redis->cli('--scan'))[0]), qr/^1[78]\d\d$/, 'values have a time to live of redis_ttl');
sql('DELETE FROM users WHERE user_id > 100');

# Damage and deceit: the value of one entry, written as somebody else would.
sub tag_of { return sql("SELECT (prompt_cache.get_with_tags('$_[0]')).tags[2]"); }
my ($channel) = sql('SELECT prompt_cache.invalidation_channel()') =~ /^(.*:)invalidate$/;
sub name_of { return $channel . tag_of($_[0]); }
sub raw { my ($name) = @_; my $hex = ''; my $out = $redis->cli('EVAL', q{return redis.call('GET', KEYS[1]):gsub('.', function(c) return string.format('%02x', c:byte()) end)}, 1, $name); return pack 'H*', $out; }
sub put_raw { my ($name, $bytes) = @_; return $redis->cli('EVAL', q{return redis.call('SET', KEYS[1], (ARGV[1]:gsub('..', function(h) return string.char(tonumber(h, 16)) end)))}, 1, $name, unpack('H*', $bytes)); }
sources();
is(remote('SELECT source FROM prompt_cache.get_or_build(2)'), 'redis', 'user 2 is in Redis');
my $value = raw(name_of(2));
like($value, qr/^pcRv.*changed.{16}$/s, 'as an envelope');
my %damage = (
    broken => $value =~ s/changed/changes/r,
    'broken by a bit' => substr($value, 0, 60) . chr(ord(substr $value, 60, 1) ^ 4) . substr($value, 61),
    'form: cut' => substr($value, 0, 30),
    'broken: cut at the end' => substr($value, 0, -1),
    'form: not ours' => 'x' x 100,
    'version: newer' => substr($value, 0, 4) . chr(2) . substr($value, 5),
    'broken: another user\'s' => raw(name_of(3)));
for my $how (sort keys %damage)
{
    my ($reason) = $how =~ /^(\w+)/;
    my $before = counted('refused', $reason);
    put_raw(name_of(2), $damage{$how});
    like(remote('SELECT source, prompt FROM prompt_cache.get_or_build(2)'), qr/^built\|.*changed$/s, "$how: refused");
    is(counted('refused', $reason) - $before, 1, "$how: and counted as $reason");
}
$redis->cli('DEL', name_of(2));
$redis->cli('LPUSH', name_of(2), 'a list');
my $errors = counted('failures', 'error');
like(remote('SELECT source, prompt FROM prompt_cache.get_or_build(2)'), qr/^built\|.*changed$/s, 'a value of another type');
is(counted('failures', 'error') - $errors, 1, 'is an error of Redis');
like(health('last_error'), qr/^WRONGTYPE/, 'which health() shows');
$redis->cli('DEL', name_of(2));

# Yesterday's data
sources();
is(sources(), "redis $count", 'all is in Redis');
$redis->cli('SAVE');
copy("$redis->{folder}/dump.rdb", "$redis->{folder}/yesterday.rdb");
sql(q{UPDATE users SET system_prompt = 'today ' || user_id WHERE user_id % 2 = 0});
is(remote_exact(), "$count of $count", 'half of the users change');
$redis->stop;
copy("$redis->{folder}/yesterday.rdb", "$redis->{folder}/dump.rdb");
$redis->start;
used_again('yesterday\'s RDB');
my $stale = counted('refused', 'stale');
is(remote_exact(), "$count of $count", 'yesterday\'s RDB: exact');
cmp_ok(counted('refused', 'stale') - $stale, '>', 20, 'yesterday\'s RDB: what is old is refused as stale');
is(sources(), "redis $count", 'yesterday\'s RDB: and replaced');
$redis->cli('FLUSHALL');
is(remote_exact(), "$count of $count", 'FLUSHALL: exact');
is(sources(), "redis $count", 'FLUSHALL: stored again');

# Full, read only
$redis->cli('FLUSHALL');
$redis->cli('CONFIG', 'SET', 'maxmemory', '1');
is(remote_exact(), "$count of $count", 'full: exact');
like(health('last_error'), qr/^OOM/, 'full: health() says so');
is(health('state'), 'on', 'full: Redis is still asked');
$redis->cli('CONFIG', 'SET', 'maxmemory', '0');
sources();
is(sources(), "redis $count", 'no longer full: used again');
my $replica = RedisServer->new('--replicaof', '127.0.0.1', $redis->{port});
for (1 .. 100) { last if $replica->cli('DBSIZE') > $count; sleep 0.1; }
configure(redis_url => $replica->url);
is(sources(), "redis $count", 'a replica answers');
sql(q{UPDATE users SET system_prompt = 'replica ' || user_id WHERE user_id % 3 = 0});
is(remote_exact(), "$count of $count", 'a replica that takes nothing: exact');
like(health('last_error'), qr/^READONLY/, 'a replica that takes nothing: health() says so');
is(health('state'), 'on', 'a replica that takes nothing: it is still asked');
$redis->stop;
$replica->cli('REPLICAOF', 'NO', 'ONE');
sources();
is(sources(), "redis $count", 'failed over to the replica: used, without a restart');
is(remote_exact(), "$count of $count", 'failed over to the replica: exact');
$redis->start;
configure(redis_url => $redis->url);
used_again('back');

# A Redis that refuses a command quotes what was sent
my $quoting = RedisServer->new('--rename-command', 'SET', 'WRITE');
configure(redis_url => $quoting->url);
$since = log_end();
sql(q{UPDATE users SET system_prompt = 'quoted ' || user_id});
is(remote_exact(), "$count of $count", 'an unknown command: exact');
like(log_since($since), qr/LOG:  prompt_cache: Redis answered: ERR unknown command .SET./, 'an unknown command: the server log has what Redis said');
is(health('last_error'), 'ERR', 'an unknown command: health() has the code alone');
$quoting->stop;
configure(redis_url => $redis->url);
used_again('a Redis that knows it');

# Killed, stopped, started
$since = log_end();
$redis->stop;
is(remote_exact(), "$count of $count", 'killed: exact');
is(health('state'), 'down', 'killed: the breaker is open');
like(log_since($since), qr/LOG:  prompt_cache: Redis is left alone after 5 failures in a row/, 'killed: one line in the log');
is(sql("SELECT prompt_cache.health() ->> 'status'"), 'degraded', 'killed: health() is degraded');
like(sql("SELECT prompt_cache.health() ->> 'reasons'"), qr/Redis is left alone/, 'killed: and says why');
unlink "$redis->{folder}/dump.rdb";
$redis->start;
used_again('started');
like(log_since($since), qr/Redis is used again/, 'started: a line in the log');
is(sources(), "built $count", 'started: empty');
is(sources(), "redis $count", 'started: filled');
sources();
$redis->signal('STOP');
my $began = time;
is(remote(q{SELECT g.source, clock_timestamp() - a.t < interval '2.5 s' FROM (SELECT clock_timestamp() AS t OFFSET 0) a,
        LATERAL (SELECT source FROM prompt_cache.get_or_build(5 + 0 * extract(epoch FROM a.t)::bigint) OFFSET 0) g}),
    'built|t', 'stopped: one lookup of three layers waits for one deadline');
is(remote_exact(), "$count of $count", 'stopped: exact');
cmp_ok(time - $began, '<', 20, 'stopped: all others wait for a few');
is(health('state'), 'down', 'stopped: the breaker is open');
$redis->signal('CONT');
used_again('continued');
is(remote_exact(), "$count of $count", 'continued: exact');

# Rights and passwords
my $scope = $channel =~ s/:$//r;
$redis->cli('ACL', 'SETUSER', 'pc', 'on', '>first', 'resetkeys', '~prompt_cache:*', 'resetchannels', '&prompt_cache:*', '-@all', '+get', '+set', '+unlink', '+publish', '+select', '+ping');
$redis->cli('ACL', 'SETUSER', 'default', '>secret');
$redis->{auth} = [ '-a', 'secret', '--no-auth-warning' ];
configure(redis_url => $redis->url . '?db=1');
is(remote_exact(), "$count of $count", 'no password: exact');
like(health('last_error'), qr/^NOAUTH/, 'no password: health() says so');
my $auth = private_file('redis_auth', "pc:first\n");
chmod 0644, $auth;
configure(redis_auth_file => $auth);
is(health('state'), 'off', 'a file that others may read: off');
like(health('problem'), qr/redis_auth_file .* may be read by others/, 'a file that others may read: health() says so');
is(sql("SELECT prompt_cache.health() ->> 'status'"), 'degraded', 'a file that others may read: degraded');
is(remote_exact(), "$count of $count", 'a file that others may read: exact');
chmod 0600, $auth;
$node->reload;
used_again('a file of mode 0600');
sources();
is(sources(), "redis $count", 'least rights are enough');
sql(q{UPDATE users SET system_prompt = 'rights' WHERE user_id = 2});
sleep 0.5;
is(sql(q{SELECT prompt_cache.health() #>> '{tiers,redis,state}'}), 'on', 'and for the worker');
unlike(health('last_error') // '', qr/NOPERM/, 'which meets no NOPERM');
$redis->cli('ACL', 'SETUSER', 'pc', 'resetpass', '>second');
$redis->cli('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
is(remote_exact(), "$count of $count", 'a rotated password: exact');
like(health('last_error'), qr/^WRONGPASS/, 'a rotated password: health() says so');
private_file('redis_auth', "pc:second\n");
$node->reload;
used_again('the new password and a reload');
sources();
is(sources(), "redis $count", 'the new password and a reload: answered');
$redis->cli('ACL', 'SETUSER', 'pc', '-get');
is(remote_exact(), "$count of $count", 'no right to read: exact');
like(health('last_error'), qr/^NOPERM/, 'no right to read: health() says so');
$redis->cli('ACL', 'SETUSER', 'pc', '+get');
used_again('with the right');

# A key
my $key = private_file('redis_key', join '', map { chr } 100 .. 131);
sql(q{UPDATE users SET system_prompt = 'a secret text' WHERE user_id = 2});
configure(redis_key_file => $key);
is(health('encrypted'), 'true', 'a key: health() says so');
$redis->cli('-n', 1, 'FLUSHALL');
is(sources(), "built $count", 'a key: other names');
is(sources(), "redis $count", 'a key: answered');
my @names = split /\n/, $redis->cli('-n', 1, '--scan');
cmp_ok(scalar(@names), '>=', $count, 'a key: values are there');
is(scalar(grep { !/^\Q$channel\E[0-9a-f]{32}$/ } @names), 0, 'a key: names are hidden');
is($redis->cli('-n', 1, 'EVAL', q{local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do if redis.call('GET', k):find('secret') then n = n + 1 end end return n}, 0), '0', 'a key: so are values');
is(remote_exact(), "$count of $count", 'a key: exact');
my $broken = counted('refused', 'broken');
$redis->cli('-n', 1, 'EVAL', q{for _, k in ipairs(redis.call('KEYS', '*')) do local v = redis.call('GET', k) redis.call('SET', k, v:sub(1, 40) .. string.char((v:byte(41) + 1) % 256) .. v:sub(42)) end}, 0);
is(sources(), "built $count", 'a key: what was tampered with is refused');
cmp_ok(counted('refused', 'broken') - $broken, '>=', $count, 'a key: and counted');
# A value that was sealed without the key, under the name that the key makes.
my $unsealed = counted('refused', 'other_key');
$redis->cli('-n', 1, 'EVAL', q{for _, k in ipairs(redis.call('KEYS', '*')) do local v = redis.call('GET', k) redis.call('SET', k, v:sub(1, 5) .. string.char(0, 0, 0, 0, 0, 0, 0) .. v:sub(13)) end}, 0);
is(sources(), "built $count", 'a key: what is not sealed by it is refused');
cmp_ok(counted('refused', 'other_key') - $unsealed, '>=', $count, 'a key: and counted');
private_file('redis_key', 'too short');
$node->reload;
sleep 0.3;
is(health('state'), 'off', 'a key that is none: off, and nothing goes out without it');
like(health('problem'), qr/redis_key_file .* 32 bytes/, 'a key that is none: health() says so');
private_file('redis_key', ('0f' x 32) . "\n");
$node->reload;
sleep 0.3;
is(health('encrypted'), 'true', 'a key in hexadecimal digits');
is(sources(), "built $count", 'another key has other names');
is(sources(), "redis $count", 'and is used');
configure(redis_key_file => '', redis_auth_file => '', redis_url => $redis->url . '?db=2');
$redis->cli('ACL', 'SETUSER', 'default', 'nopass');
delete $redis->{auth};
used_again('without a key');

# Databases
load_chat($node, 'other');
$node->safe_psql('postgres', 'CREATE DATABASE clone TEMPLATE chat');
sources();
for my $database ('other', 'clone')
{
    is($node->safe_psql($database, 'SET prompt_cache.memory = off; SELECT source FROM prompt_cache.get_or_build(2)'), 'built', "$database has values of its own");
    is(exact($node, $database), $count . ' of ' . $count, "$database: exact") if $database eq 'other';
}
my %scopes = map { /(\{.*\})/ => 1 } split /\n/, $redis->cli('-n', 2, '--scan');
is(scalar(keys %scopes), 3, 'three databases, three scopes');
$node->safe_psql('clone', 'DROP EXTENSION prompt_cache; CREATE EXTENSION prompt_cache; SELECT prompt_cache.attach()');
$node->safe_psql('clone', 'SET prompt_cache.memory = off; SELECT prompt_cache.prompt(2)');
%scopes = map { /(\{.*\})/ => 1 } split /\n/, $redis->cli('-n', 2, '--scan');
is(scalar(keys %scopes), 4, 'another incarnation has another one');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|still referenced/, 'no trouble in the log');
$node->stop;
done_testing();
