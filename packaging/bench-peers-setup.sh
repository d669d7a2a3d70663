#!/bin/sh
# Starts Postfix on 12525 and Dovecot (IMAP 12143 and, with TLS, 12993; LMTP) with their data in directory $1.
set -eu
dir=$1
mkdir -p "$dir/postfix" "$dir/spool" "$dir/pdata" "$dir/mail" "$dir/run"
getent passwd vbench >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin vbench
chown vbench "$dir/mail"
chown postfix "$dir/pdata"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=mail.example.test \
	-keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
cat >"$dir/dovecot.conf" <<C
base_dir = $dir/run
log_path = $dir/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <$dir/cert.pem
ssl_key = <$dir/key.pem
disable_plaintext_auth = no
mail_location = maildir:$dir/mail/%n
mail_uid = vbench
mail_gid = vbench
first_valid_uid = 1
passdb {
  driver = static
  args = password=bench-secret-1
}
userdb {
  driver = static
  args = uid=vbench gid=vbench home=$dir/mail/%n allow_all_users=yes
}
service imap-login {
  inet_listener imap {
    port = 12143
  }
  inet_listener imaps {
    port = 12993
    ssl = yes
  }
  process_min_avail = 2
  service_count = 0
}
service imap {
  process_limit = 4096
}
default_client_limit = 8192
protocol imap {
  mail_max_userip_connections = 5000
}
service lmtp {
  unix_listener $dir/spool/private/dovecot-lmtp {
    mode = 0600
    user = postfix
    group = postfix
  }
  process_min_avail = 4
}
C
postfix_dir=/etc/postfix
cp "$postfix_dir/master.cf" "$dir/postfix/master.cf" 2>/dev/null || cp /usr/share/postfix/master.cf.dist "$dir/postfix/master.cf"
sed -i 's/^smtp *inet/127.0.0.1:12525 inet/' "$dir/postfix/master.cf"
cat >"$dir/postfix/main.cf" <<C
compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/pdata
myhostname = mail.example.test
mydestination =
virtual_mailbox_domains = example.test
virtual_transport = lmtp:unix:private/dovecot-lmtp
virtual_mailbox_maps = inline:{ alice@example.test=x, bob@example.test=x }
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
maillog_file = $dir/postfix.log
maillog_file_prefixes = $dir
alias_maps =
alias_database =
C
postfix -c "$dir/postfix" check >/dev/null 2>&1 || true
mkdir -p "$dir/spool/private"
chown postfix "$dir/spool/private"
dovecot -c "$dir/dovecot.conf"
postfix -c "$dir/postfix" start >/dev/null 2>&1
for _ in $(seq 100); do
	(exec 3<>/dev/tcp/127.0.0.1/12525) 2>/dev/null && break
	sleep 0.1
done
