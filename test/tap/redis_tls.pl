# TLS to Redis, where the build has it: the certificate must come from a known authority and name the host.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use ChatDatabase;
use RedisServer;

my $folder = PostgreSQL::Test::Utils::tempdir_short();
sub openssl { return system("openssl @_ >/dev/null 2>$folder/err") == 0 || die "openssl @_: " . slurp_file("$folder/err"); }
# An authority, and a certificate of its for localhost.
sub certify
{
    my ($name) = @_;
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$name -keyout $folder/$name.key -out $folder/$name.crt");
    openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $folder/$name-server.key -out $folder/$name-server.csr");
    append_to_file("$folder/$name.ext", "subjectAltName = DNS:localhost\n");
    openssl("x509 -req -days 2 -in $folder/$name-server.csr -CA $folder/$name.crt -CAkey $folder/$name.key -CAcreateserial -extfile $folder/$name.ext -out $folder/$name-server.crt");
    return;
}
my $node = new_server('early', "autovacuum = off\n");
my (undef, undef, $refusal) = $node->psql('postgres', q{ALTER SYSTEM SET prompt_cache.redis_url = 'rediss://localhost:1/0'});
$node->stop;
plan skip_all => 'this build has no TLS' if $refusal =~ /has no TLS/;

certify($_) for qw(known unknown);
sub redis_with
{
    my ($name) = @_;
    my $port = PostgreSQL::Test::Cluster::get_free_port();
    my $redis = RedisServer->new('--tls-port', $port, '--tls-cert-file', "$folder/$name-server.crt", '--tls-key-file', "$folder/$name-server.key",
        '--tls-ca-cert-file', "$folder/$name.crt", '--tls-auth-clients', 'no');
    return ($redis, $port);
}
my ($redis, $port) = redis_with('known');
my ($other, $other_port) = redis_with('unknown');

# What the system knows.
$ENV{SSL_CERT_FILE} = "$folder/known.crt";
$ENV{SSL_CERT_DIR} = $folder;
$node = new_server('tls', "autovacuum = off\nprompt_cache.redis_timeout = '300ms'\nprompt_cache.redis_url = 'rediss://localhost:$port/2'\n");
load_chat($node, 'chat');
my $off = 'SET prompt_cache.memory = off; SET prompt_cache.database = off;';
sub sql { return $node->safe_psql('chat', shift); }
sub sources { return sql("$off SELECT string_agg(source || ' ' || n, ', ' ORDER BY source) FROM (SELECT source, count(*) AS n FROM users, prompt_cache.get_or_build(user_id) GROUP BY 1) s"); }
sub says { my $what = shift; return $node->poll_query_until('chat', "SELECT prompt_cache.health() #>> '{tiers,redis,last_error}' LIKE '%$what%'"); }
sub use_url
{
    my ($url) = @_;
    $node->safe_psql('postgres', "ALTER SYSTEM SET prompt_cache.redis_url = '$url'");
    $node->reload;
    sleep 1.5;
    return;
}
for (1 .. 100) { last if sql("$off SELECT source FROM prompt_cache.get_or_build(2)") eq 'redis'; sleep 0.1; }
sources();
is(sources(), 'redis 60', 'answered through TLS');
my $large = sql(q{UPDATE users SET system_prompt = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 25000) g) WHERE user_id = 2 RETURNING length(system_prompt)});
sql("$off SELECT prompt_cache.prompt(2)");
is(sql("$off SELECT source, prompt = prompt_cache.build(2), length(prompt) > $large FROM prompt_cache.get_or_build(2)"), 'redis|t|t', 'a value of many records');

$redis->signal('STOP');
my $began = time;
is(sql("$off SELECT source FROM prompt_cache.get_or_build(3)"), 'built', 'a server that stands still');
cmp_ok(time - $began, '<', 0.8, 'within the deadline');
$redis->signal('CONT');

# A new connection is refused where its certificate does not fit.
use_url("rediss://127.0.0.1:$port/2");
is(sources(), 'built 60', 'a host that the certificate does not name: not used');
ok(says('mismatch'), 'and health() says so');
use_url("rediss://localhost:$other_port/2");
is(sources(), 'built 60', 'an authority that nobody knows: not used');
ok(says('certificate'), 'and health() says so');
is($other->cli('-n', 2, 'DBSIZE'), '0', 'nothing was sent to it');
use_url("rediss://localhost:$redis->{port}/2");
is(sources(), 'built 60', 'a port without TLS: not used');
use_url("rediss://localhost:$port/2");
ok($node->poll_query_until('chat', q{SELECT prompt_cache.health() #>> '{tiers,redis,state}' = 'on'}), 'the right one: used again');
sources();
is(sources(), 'redis 60', 'and answered');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|still referenced/, 'no trouble in the log');
$node->stop;
done_testing();
