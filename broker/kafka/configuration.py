"""The configuration of the embedded Kafka: the same security as in production, on a small machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: The super user. In capitals, as is BROKER: the names of parties are lower case, and the principal
#: rules below map a party's certificate to lower case only, so none can turn into one of these.
ADMIN: Final = "ADMIN"
#: What the brokers are among themselves, by their certificates.
BROKER: Final = "BROKER"
PORTS_PER_BROKER: Final = 3
#: How long a login counts before the client has to show its password again (docs/adr/0016).
REAUTH_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Layout:
    """Which broker listens where, and where its files are.

    Args:
        home: the folder of this Kafka.
        brokers: 1, or 3 for a cluster that survives one.
        base_port: the first port; each broker takes `PORTS_PER_BROKER`: login, mutual TLS, controller.
    """

    home: Path
    brokers: int
    base_port: int

    def ports(self, node: int) -> range:
        """Ports of a broker, `node` counting from 1."""
        first = self.base_port + PORTS_PER_BROKER * (node - 1)
        return range(first, first + PORTS_PER_BROKER)

    @property
    def nodes(self) -> range:
        """The node numbers."""
        return range(1, self.brokers + 1)

    @property
    def bootstrap(self) -> str:
        """Addresses of the listeners with login (SASL_SSL)."""
        return ",".join(f"127.0.0.1:{self.ports(node)[0]}" for node in self.nodes)

    def data(self, node: int) -> Path:
        """A broker's log folder."""
        return self.home / f"data-{node}"

    def properties_file(self, node: int) -> Path:
        """A broker's configuration."""
        return self.home / f"server-{node}.properties"

    def log(self, node: int) -> Path:
        """What a broker logs."""
        return self.home / f"broker-{node}.log"

    def output(self, node: int) -> Path:
        """What a broker's process printed, the JVM's last words included."""
        return self.home / f"broker-{node}.out"


def server_properties(
    layout: Layout, node: int, pki: Path, extra: Mapping[str, str], reauth_ms: int = REAUTH_MS
) -> str:
    """Returns the `server.properties` of one broker; `extra` comes last and so overrides."""
    login, mutual, controller = layout.ports(node)
    text = _SERVER.format(
        node=node,
        voters=",".join(f"{n}@127.0.0.1:{layout.ports(n)[2]}" for n in layout.nodes),
        login=login,
        mutual=mutual,
        controller=controller,
        data=layout.data(node),
        pki=pki,
        reauth=reauth_ms,
        replicas=min(3, layout.brokers),
        in_sync=2 if layout.brokers > 2 else 1,
    )
    return text + "".join(f"{name}={value}\n" for name, value in extra.items())


def java_options(layout: Layout, tag: str, heap_mb: int, *, both_compilers: bool = False) -> list[str]:
    """Options of the Java runtime: one broker takes about 165 MB, and one core is enough to start it.

    Args:
        both_compilers: as a broker in production has it. With the first alone it starts sooner and encrypts at a
            seventh of the speed.
    """
    compilers: tuple[str, ...] = ("-XX:ReservedCodeCacheSize=96m",)
    if not both_compilers:
        compilers = ("-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=48m")
    return [
        "-server",
        "-Xms64m",
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-Xss512k",
        "-XX:MaxDirectMemorySize=64m",
        *compilers,
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        f"-Dkafka.log={layout.home / tag}.log",
        f"-Dlog4j2.configurationFile={layout.home / 'log4j2.xml'}",
        "-Dlog4j2.disableJmx=true",
    ]


_SERVER: Final = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=LOGIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{mutual},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=LOGIN://127.0.0.1:{login},MUTUAL://127.0.0.1:{mutual}
listener.security.protocol.map=LOGIN:SASL_SSL,MUTUAL:SSL,CONTROLLER:SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=MUTUAL
log.dirs={data}
# --- TLS: PEM files, one CA
ssl.keystore.type=PEM
ssl.keystore.location={pki}/broker-{node}.keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location={pki}/ca.pem
ssl.enabled.protocols=TLSv1.3,TLSv1.2
listener.name.mutual.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([a-z0-9.-]+),OU=party$/$1/,RULE:^CN=broker-[0-9]+,OU=broker$/BROKER/,DEFAULT
# --- login with SCRAM only; brokers use certificates among themselves, so no password is stored here
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.login.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
# a login is asked again: a removed user or a changed password counts for open connections too (docs/adr/0016)
listener.name.login.scram-sha-512.connections.max.reauth.ms={reauth}
# --- denied unless an ACL allows it
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:BROKER;User:ADMIN
# --- over how long quotas are counted: with Kafka's 11 windows a flood begins with ten seconds' worth at once
quota.window.num=3
quota.window.size.seconds=1
# --- topics are code
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
unclean.leader.election.enable=false
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
# a receiver that is away over the summer still knows where it was: as long as out.* is kept
offsets.retention.minutes=86400
group.initial.rebalance.delay.ms=0
# --- an abandoned transaction holds back every reader of its partitions: end it soon after its time-out
transaction.max.timeout.ms=60000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# --- a killed broker is fenced after 3 s (default 9)
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# --- a killed leader of the controllers is missed after 1.5 s, and followed within half a second (defaults 2 and 1)
controller.quorum.fetch.timeout.ms=1500
controller.quorum.election.timeout.ms=500
controller.quorum.election.backoff.max.ms=500
controller.quorum.request.timeout.ms=1500
replica.lag.time.max.ms=10000
# --- small machine, small limits
num.network.threads=2
num.io.threads=3
background.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.dedupe.buffer.size=4194304
# all of one machine: each lane of a worker has two or three
max.connections=5000
max.connections.per.ip=5000
message.max.bytes=1048588
socket.request.max.bytes=8388608
# records from the future would outlive their retention
log.message.timestamp.after.max.ms=3600000
log.segment.bytes=16777216
"""

LOG4J: Final = """\
<Configuration status="WARN" shutdownHook="disable"><Appenders>
<RollingFile name="F" fileName="${sys:kafka.log}" filePattern="${sys:kafka.log}.%i" append="true">
<PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/><Policies><SizeBasedTriggeringPolicy size="20MB"/></Policies>
<DefaultRolloverStrategy max="2"/></RollingFile></Appenders><Loggers>
<Logger name="org.apache.kafka" level="WARN"/><Logger name="kafka" level="WARN"/>
<Logger name="org.apache.kafka.server.KafkaRaftServer" level="INFO"/>
<Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
<Logger name="kafka.authorizer.logger" level="INFO"/>
<Root level="WARN"><AppenderRef ref="F"/></Root></Loggers></Configuration>
"""
