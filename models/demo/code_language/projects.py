"""The projects that the snippets come from, and the half that each one stands in.

A project is one package at a recorded version: a source package or a binary package of Debian (bookworm), or
an npm package. It belongs to one language and to one half: nothing of a held-out project is seen in training.

JavaScript and TypeScript are one language here: most short places in TypeScript are JavaScript as well.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Client = Literal["source", "debian", "npm"]
Half = Literal["train", "held-out"]

TABLE = """
[c source train]
zlib=1:1.2.13.dfsg-1 libpng1.6=1.6.39-2+deb12u5 curl=7.88.1-10+deb12u15 jansson=2.14-2
libevent=2.1.12-stable-8 tmux=3.3a-3 htop=3.2.2-2 jq=1.6-2.1+deb12u2 lz4=1.9.4-1 musl=1.2.3-1
hiredis=0.14.1-3 nginx=1.22.1-9+deb12u9 libusb-1.0=2:1.0.26-1 gawk=1:5.2.1-2
[c source held-out]
libuv1=1.44.2-1+deb12u1 nano=7.2-1+deb12u1 memcached=1.6.18-1 mosquitto=2.0.11-1.2+deb12u2 libyaml=0.2.5-1
[c++ source train]
fmtlib=9.1.0+ds1-2 spdlog=1:1.10.0+ds-0.4 re2=20220601+dfsg-1 googletest=1.12.1-0.2 pugixml=1.13-0.2
yaml-cpp=0.7.0+dfsg-8 catch2=2.13.10-1 ninja-build=1.11.1-2~deb12u1 google-glog=0.6.0-2
libsfml=2.5.1+dfsg-2 taglib=1.13-2+deb12u1 bullet=3.24+dfsg-2 fish=3.6.0-3.1+deb12u1 cppcheck=2.10-2
qbittorrent=4.5.2-3+deb12u1
[c++ source held-out]
leveldb=1.23-4 libjsoncpp=1.9.5-4 tinyxml2=9.0.0+dfsg-3.1 box2d=2.4.1-3 zeromq3=4.3.4-6 mosh=1.4.0-1
[css npm train]
animate.css=4.1.1 purecss=3.1.0 tachyons=4.12.0 semantic-ui-css=2.5.0 bootstrap=5.3.8 highlight.js=11.12.0
codemirror=5.65.21 swiper=14.4.0 jquery-ui=1.14.2 leaflet=1.9.4 reveal.js=6.0.2 @blueprintjs/core=6.20.0
@picocss/pico=2.1.1 sweetalert2=11.26.25 hover.css=2.3.2
[css npm held-out]
prismjs=1.30.0 intro.js=8.6.0 milligram=1.4.1 materialize-css=1.0.0 select2=4.0.13 toastr=2.1.4
mvp.css=1.18.0
[go source train]
golang-github-spf13-cobra=1.6.1-1 golang-github-gorilla-mux=1.8.0-1 golang-testify=1.8.1-1
golang-github-gin-gonic-gin=1.8.1-1 golang-github-hashicorp-hcl-v2=2.14.1-2
golang-golang-x-net=1:0.7.0+dfsg-1 fzf=0.38.0-1 caddy=2.6.2-5 golang-github-boltdb-bolt=1.3.1-7
golang-github-spf13-afero=1.9.3-1 golang-github-yuin-goldmark=1.5.4-1
[go debian train]
golang-github-prometheus-client-golang-dev=1.14.0-3 golang-github-spf13-viper-dev=1.10.1-1
[go source held-out]
gdu=5.22.0-1 golang-github-lib-pq=1.10.7-2
[go debian held-out]
golang-github-go-chi-chi-dev=5.0.7-1 golang-github-hashicorp-raft-dev=1.1.2-1
golang-github-valyala-fasthttp-dev=1:1.31.0-4
[haskell source train]
haskell-aeson=2.0.3.0-1 haskell-lens=5.0.1-2 xmonad=0.17.1-1 haskell-hakyll=4.15.1.1-1
haskell-conduit=1.3.4.3-1 haskell-attoparsec=0.14.4-2 haskell-servant=0.19-1 haskell-vector=0.12.3.1-1
haskell-warp=3.3.21-3 haskell-hledger-lib=1.25-1 haskell-persistent=2.13.3.5-2 hlint=3.3.6-1
[haskell source held-out]
haskell-quickcheck=2.14.2-1 haskell-megaparsec=9.2.2-1 haskell-graphviz=2999.20.1.0-1
haskell-http-client=0.7.13.1-1 haskell-unordered-containers=0.2.17.0-2
[java source train]
libcommons-lang3-java=3.12.0-2+deb12u1 junit4=4.13.2-3 jackson-core=2.14.1-2~deb12u1
httpcomponents-client=4.5.14-1 libjoda-time-java=2.10.14-1 mockito=2.23.0-2 jsoup=1.15.3-1
libokhttp-java=3.13.1-3 h2database=2.1.214-1 joptsimple=5.0.4-4 libcommons-collections4-java=4.2-1
apache-log4j2=2.19.0-2 testng=6.9.12-4
[java source held-out]
commons-io=2.11.0-2 picocli=4.6.2-2 libjfreechart-java=1.0.19-3 args4j=2.33-2 jedit=5.5.0+dfsg-2
[javascript/typescript source train]
node-express=4.18.2+~4.17.14-1 node-marked=4.2.3+ds+~4.0.7-2 node-handlebars=3:4.7.7+~4.1.0-1
node-tape=5.6.1+~cs8.20.19-1 eslint=6.4.0~dfsg+~6.1.9-7 node-through2=4.0.2-2 node-mysql=2.18.1+~2.3.2-2
node-winston=3.8.2-1 node-moment=2.29.4+ds-1 node-yargs=16.2.0+~16.0.4-7
[javascript/typescript npm train]
underscore=1.13.8 async=3.2.6 mocha=12.0.3 axios=1.21.1 ws=8.23.0 knex=3.3.0 zod=4.6.7 immer=11.2.10
@reduxjs/toolkit=2.14.0 @tanstack/query-core=5.108.0 rxjs=7.8.2 mobx=7.1.3 msw=2.15.0 ethers=6.17.0
effect=4.1.0
[javascript/typescript source held-out]
node-commander=9.4.1-1 node-chai=4.3.7~ds1+~cs9.7.21-1 node-fs-extra=10.1.0+~9.0.13-1
node-htmlparser2=8.0.1-4
[javascript/typescript npm held-out]
ejs=7.0.2 bluebird=3.7.2 request=2.88.2 sequelize=6.37.8 viem=2.57.20 graphql-request=7.4.0 ajv=8.20.0
redux=5.0.1
[lua source train]
luarocks=3.8.0+dfsg1-1 awesome=4.3-7 minetest-mod-mesecons=1:1.2.1-2 minetest-mod-3d-armor=0.4.14-2
minetest-mod-mobs-redo=20210923-1 vis=0.8-1 lua-http=0.4-1 lua-lgi=0.9.2-3
[lua debian train]
lua-penlight=1.13.1-3 lua-busted=2.1.1-1 lua-copas=1.2.0-2 prosody=0.12.3-1+deb12u1 lua-posix=33.4.0-3+b1
lua-check=1.1.0-1
[lua source held-out]
lua-argparse=0.7.1-2 lua-moses=2.1.0-1 luasocket=3.1.0-1
[lua debian held-out]
lua-ldoc=1.4.6-2 luakit=1:2.3.3-1 minetest-mod-worldedit=0.6-1.1 lua-logging=1.3.0-2
[perl source train]
libmoose-perl=2.2203-1 libmojolicious-perl=9.31+dfsg-1 libdatetime-perl=2:1.59-1 libwww-perl=6.68-1
libdbi-perl=1.643-4+deb12u1 cloc=1.96-1 libtemplate-perl=2.27-1 libplack-perl=1.0050-1 debhelper=13.11.4
libtype-tiny-perl=2.002001-1 libparse-recdescent-perl=1.967015+dfsg-4
[perl debian train]
libxml-twig-perl=1:3.52-2 irssi-scripts=20220704 libdist-zilla-perl=6.030-1
[perl source held-out]
ack=3.6.0-1 liblog-log4perl-perl=1.57-1 libtext-csv-perl=2.02-2 mysqltuner=1.9.9-1
libspreadsheet-writeexcel-perl=2.40-4
[perl debian held-out]
libdancer2-perl=0.400001+dfsg-1
[php source train]
php-twig=3.5.1-1+deb12u3 php-guzzlehttp-psr7=2.4.5-1+deb12u1 php-monolog=2.9.1-1 composer=2.5.5-1+deb12u5
php-parser=4.15.4-1 tt-rss=21~git20210204.b4cbc79+dfsg-1.2 php-league-commonmark=2.3.9-1+deb12u1
dokuwiki=0.0.20220731.a-2
[php debian train]
smarty4=4.3.0-1+deb12u2 php-doctrine-dbal=3.6.1+dfsg-1 libphp-simplepie=1.3.1+dfsg-5
php-phpseclib=2.0.42-1+deb12u5 postfixadmin=3.3.13-1 php-getid3=1.9.22+dfsg-1
[php source held-out]
php-laravel-framework=8.83.26+dfsg-2 php-ramsey-uuid=4.6.0-1
[php debian held-out]
php-mockery=1.5.1-2 libphp-phpmailer=6.6.3-1 phpldapadmin=1.2.6.3-0.3+deb12u1 php-slim=3.12.4-1
[python source train]
youtube-dl=2021.12.17-2
[python debian train]
python3-flask=2.2.2-3 python3-requests=2.28.1+dfsg-1 python3-click=8.1.3-2 python3-scrapy=2.8.0-2
python3-pytest=7.2.1-2 python3-paramiko=2.12.0-2 python3-tornado=6.2.0-3+deb12u4
python3-twisted=22.4.0-4+deb12u1 python3-networkx=2.8.8-1 beets=1.6.0-4+deb12u1 ranger=1.9.3-5
python3-docutils=0.19+dfsg-6 python3-sqlalchemy=1.4.46+ds1-1 python3-nltk=3.8-1
[python source held-out]
jinja2=3.1.2-1+deb12u3
[python debian held-out]
python3-bottle=0.12.23-1.1 httpie=3.2.1-1 python3-gunicorn=20.1.0-6+deb12u1 pelican=4.8.0+dfsg-1
python3-celery=5.2.6-5
[r source train]
r-cran-ggplot2=3.4.1+dfsg-1 r-cran-testthat=3.1.6-1 r-cran-shiny=1.7.4+dfsg-2+deb12u1
r-cran-mass=7.3-58.2-1 r-cran-dplyr=1.0.10-1 r-cran-devtools=2.4.5-1 r-cran-foreach=1.5.2-1 mgcv=1.8-41-1
r-cran-rcurl=1.98-1.10+dfsg-1 r-cran-cli=3.6.0-1 r-cran-tidyr=1.3.0-1 r-cran-maps=3.4.1-1
[r source held-out]
r-cran-stringr=1.5.0-1 r-cran-purrr=1.0.1-1 r-cran-httr=1.4.5+dfsg-1 r-cran-scales=1.2.1-1
r-cran-zip=2.2.2-1 r-cran-tibble=3.1.8+dfsg-1 r-cran-reshape2=1.4.4-2 r-cran-xml=3.99-0.13-1
r-cran-gridextra=2.3-3
[ruby source train]
puma=5.6.5-3+deb12u1 ruby-devise=4.8.1-1 rubocop=1.39.0+dfsg-1
[ruby debian train]
ruby-sinatra=3.0.5-3+deb12u1 ruby-rack=2.2.22-0+deb12u2 ruby-thor=1.2.1-2 ruby-rspec-core=3.12.0c0e1m1s0-1
jekyll=4.3.1+dfsg-3+deb12u1 ruby-sequel=5.63.0-1 ruby-mail=2.7.1+dfsg1-2 pry=0.13.1-3
ruby-asciidoctor=2.0.18-2 ruby-prawn=2.4.0+dfsg-1~ ruby-redis=4.8.0-1
[ruby debian held-out]
rake=13.0.6-3 ruby-faraday=1.1.0-7 ruby-liquid=5.4.0-3 capistrano=3.17.2-1 ruby-grape=1.6.2-3
schleuder=4.0.3-7+deb12u1
[rust source train]
rust-serde=1.0.152-2 rust-clap=4.0.32-1 rust-rand=0.8.5-1 rust-ripgrep=13.0.0-4
[rust debian train]
librust-regex-dev=1.7.1-1 librust-tokio-dev=1.24.2-1 librust-hyper-dev=0.14.19-1 librust-nom-dev=7.1.1-1
librust-rayon-dev=1.6.1-1 librust-syn-dev=1.0.107-1 librust-petgraph-dev=0.6.2-1
librust-image-dev=0.24.3-1
[rust source held-out]
rust-fd-find=8.6.0-3 rust-exa=0.10.1-4
[rust debian held-out]
librust-itertools-dev=0.10.3-1 librust-chrono-dev=0.4.23-2 librust-reqwest-dev=0.11.13-1
librust-semver-dev=1.0.14-1
[shell source train]
debootstrap=1.0.128+nmu2+deb12u2 initramfs-tools=0.142+deb12u3 dracut=059-4 byobu=5.133-1.1
rkhunter=1.4.6-11 rear=2.7+dfsg-1+deb12u1 bash-completion=1:2.11-6
[shell debian train]
bats=1.8.2-1 live-build=1:20230502 xdg-utils=1.1.3-4.1 openrc=0.45.2-2+deb12u1 firehol=3.1.7+ds-2.1
lynis=3.0.8-1.1 pbuilder=0.231
[shell source held-out]
password-store=1.7.4-6 git-flow=1.12.3-3 abcde=2.9.3-1 laptop-mode-tools=1.74-1.2
[shell debian held-out]
shunit2=2.1.8-3 etckeeper=1.18.20-1 dehydrated=0.7.0-3 tlp=1.5.0-2
[sql source train]
mimeo=1.5.1-14 repmgr=5.3.3-2 ledgersmb=1.6.33+ds-2.1 freeradius=3.2.1+dfsg-4+deb12u1
[sql debian train]
postgresql-15-pgtap=1.2.0-3 postgresql-15-orafce=4.1.1-1 postgresql-15-partman=4.7.2-1
postgresql-15-ip4r=2.4.1-8+b1 postgresql-15-jsquery=1.1.1-6+b1 postgresql-15-plpgsql-check=2.3.0-1
postgresql-15-unit=7.7-1 postgresql-15-q3c=2.0.0-7+b1 postgresql-15-hll=2.17-1+b1
roundcube-core=1.6.5+dfsg-1+deb12u13 icinga2-ido-mysql=2.13.6-2+deb12u2
[sql source held-out]
pglogical=2.4.2-3
[sql debian held-out]
postgresql-15-pgsphere=1.1.1+2021-11-10-2+b1 postgresql-15-semver=0.32.0-1+b1
postgresql-15-pg-fact-loader=1.7.0-3 postgresql-15-powa=4.1.4-2+b1 postgresql-15-prefix=1.2.9-5+b1
postgresql-15-periods=1.2.2-1+b1 ejabberd=23.01-1 postgresql-15-cron=1.4.2-2+b1
"""


@dataclass(frozen=True, kw_only=True)
class Project:
    """One package: who publishes it, at which version, for which language and in which half."""

    language: str
    client: Client
    half: Half
    name: str
    version: str


def parse(table: str) -> tuple[Project, ...]:
    """Read a table: a line `[language client half]`, then `name=version` words.

    Raises:
        ValueError: a project stands outside a section, twice, without a version, or in an unknown section.
    """
    projects: dict[str, Project] = {}
    section: tuple[str, Client, Half] | None = None
    for line in table.splitlines():
        if line.startswith("["):
            section = _section(line)
            continue
        for word in line.split():
            name, _, version = word.partition("=")
            if section is None or not version or name in projects:
                raise ValueError(f"not a project of its own: {word!r}")
            language, client, half = section
            projects[name] = Project(language=language, client=client, half=half, name=name, version=version)
    return tuple(projects.values())


def _section(line: str) -> tuple[str, Client, Half]:
    words = line.strip("[]").split()
    if len(words) == 3:
        language, *rest = words
        for client in get_args(Client):
            for half in get_args(Half):
                if rest == [client, half]:
                    return language, client, half
    raise ValueError(f"not a section: {line!r}")


PROJECTS = parse(TABLE)
LANGUAGES = tuple(sorted({project.language for project in PROJECTS}))
