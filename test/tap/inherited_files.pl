# A program that a backend starts inherits neither its connection to Redis nor a file of secrets.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use ChatDatabase;
use RedisServer;

my $redis = RedisServer->new;
my $folder = PostgreSQL::Test::Utils::tempdir_short();
for my $file ([ auth => 'default:secret' ], [ key => '0' x 64 ])
{
    PostgreSQL::Test::Utils::append_to_file("$folder/$file->[0]", "$file->[1]\n");
    chmod 0600, "$folder/$file->[0]";
}
$redis->cli('CONFIG', 'SET', 'requirepass', 'secret');
$redis->{auth} = [ '--pass', 'secret' ];

# The worker may unlink once what this session has just stored: then it is built and stored again.
sub is_connected
{
    my ($session) = @_;
    for (1 .. 100) { return 1 if $session->query_safe('SELECT source FROM prompt_cache.get_or_build(2)') eq 'redis'; }
    return 0;
}

for my $url ($redis->url, $redis->tcp_url)
{
    my $node = new_server('inherited' . ($url =~ /^unix/ ? '_unix' : '_tcp'), join("\n", 'autovacuum = off', "prompt_cache.redis_url = '$url'",
        "prompt_cache.redis_timeout = '10s'", "prompt_cache.redis_auth_file = '$folder/auth'", "prompt_cache.redis_key_file = '$folder/key'", ''));
    load_chat($node, 'chat');
    my $session = $node->background_psql('chat');
    my $inherited = q{FROM PROGRAM 'for file in /proc/self/fd/*; do readlink $file; done; true'};
    $session->query_safe('SET prompt_cache.memory = off; SET prompt_cache.database = off');
    $session->query_safe("CREATE TEMP TABLE before(file text); CREATE TEMP TABLE files(file text); COPY before $inherited");
    $session->query_safe('SELECT count(prompt_cache.prompt(user_id)) FROM users');
    ok(is_connected($session), "$url: this session is connected to Redis");
    $session->query_safe("COPY files $inherited");
    cmp_ok($session->query_safe('SELECT count(*) FROM files'), '>', 1, "$url: a program sees its files");
    # Before version 16 the server itself leaves it the client's socket.
    is($session->query_safe(qq{SELECT string_agg(file, ' ') FROM files WHERE file LIKE 'socket:%' AND file NOT IN (SELECT file FROM before)}), '', "$url: no socket that was not there before");
    is($session->query_safe(qq{SELECT string_agg(file, ' ') FROM files WHERE file LIKE '$folder%'}), '', "$url: and no file of secrets");
    ok(is_connected($session), "$url: the connection goes on");
    $session->quit;
    $node->stop;
}
done_testing();
