# A Redis of a test's own, in a folder of its own, on a unix socket and a port of the loopback, ended by its own pid; and
# a proxy before it that does what networks and broken servers do (fault_proxy).
package RedisServer;

use strict;
use warnings;
use FindBin;
use IO::Socket::UNIX;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);

my @running;

# More arguments of redis-server; named ones first: socket => 0 for a port only.
sub new
{
    my ($class, @arguments) = @_;
    my $folder = PostgreSQL::Test::Utils::tempdir_short();
    my $self = bless { folder => $folder, socket => "$folder/s", port => PostgreSQL::Test::Cluster::get_free_port(), arguments => \@arguments }, $class;
    push @running, $self;
    $self->start;
    return $self;
}

sub url { my $self = shift; return "unix://$self->{socket}"; }
sub tcp_url { my $self = shift; return "redis://127.0.0.1:$self->{port}"; }

sub start
{
    my ($self, @more) = @_;
    defined($self->{pid} = fork) or die "fork: $!";
    if (!$self->{pid})
    {
        open STDOUT, '>>', "$self->{folder}/log";
        open STDERR, '>&', \*STDOUT;
        exec 'redis-server', '--port', $self->{port}, '--bind', '127.0.0.1', '--unixsocket', $self->{socket}, '--dir', $self->{folder},
            '--save', '', '--repl-diskless-sync-delay', '0', '--enable-debug-command', 'yes', @{ $self->{arguments} }, @more;
        die "redis-server: $!";
    }
    for (1 .. 200)
    {
        return $self if -S $self->{socket} && ($self->cli('PING') =~ /PONG|NOAUTH|LOADING/);
        sleep 0.05;
    }
    die "redis-server does not start: " . PostgreSQL::Test::Utils::slurp_file("$self->{folder}/log");
}

# What redis-cli prints.
sub cli
{
    my ($self, @command) = @_;
    my ($out, $err);
    IPC::Run::run([ 'redis-cli', '-s', $self->{socket}, @{ $self->{auth} // [] }, @command ], '<', \'', '>', \$out, '2>', \$err);
    chomp $out;
    return $out;
}

sub signal { my ($self, $name) = @_; kill $name, $self->{pid}; return; }

# As a machine that loses its power.
sub stop
{
    my $self = shift;
    return if !$self->{pid};
    kill 'CONT', $self->{pid};
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    unlink $self->{socket};
    $self->{pid} = 0;
    return;
}

# A proxy before this Redis, on a socket of its own.
sub proxy
{
    my $self = shift;
    my $folder = PostgreSQL::Test::Utils::tempdir_short();
    my $proxy = bless { socket => "$folder/p", mode => "$folder/mode" }, 'RedisServer::Proxy';
    $proxy->mode('pass');
    defined($proxy->{pid} = fork) or die "fork: $!";
    if (!$proxy->{pid})
    {
        exec $^X, "$FindBin::RealBin/fault_proxy", $proxy->{socket}, $self->{socket}, $proxy->{mode};
        die "fault_proxy: $!";
    }
    push @running, $proxy;
    for (1 .. 200) { return $proxy if -S $proxy->{socket}; sleep 0.05; }
    die 'fault_proxy does not start';
}

END
{
    my $code = $?;
    $_->stop for @running;
    $? = $code;
}

package RedisServer::Proxy;

sub url { my $self = shift; return "unix://$self->{socket}"; }

# What happens to replies from now on; see fault_proxy.
sub mode
{
    my ($self, $mode) = @_;
    open my $file, '>', "$self->{mode}.new" or die $!;
    print $file $mode;
    close $file;
    rename "$self->{mode}.new", $self->{mode} or die $!;
    return;
}

sub stop
{
    my $self = shift;
    return if !$self->{pid};
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    $self->{pid} = 0;
    return;
}

1;
