"""Numbers of the system calls that a candidate may make, for x86_64 and aarch64 (`-`: the machine has no such call).

From the kernel's own tables; a call that is not here fails with EPERM. No exec, no new process, no socket to anywhere,
no signal to another process, no ptrace, no mount, no key ring, no io_uring, no bpf.
"""

from __future__ import annotations

# name:x86_64:aarch64, allowed with any arguments.
ALWAYS = """
read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
open:2:- openat:257:56 creat:85:- close:3:57 close_range:436:436 fstat:5:80 stat:4:- lstat:6:-
newfstatat:262:79 statx:332:291 statfs:137:43 fstatfs:138:44 lseek:8:62 poll:7:- ppoll:271:73 select:23:-
pselect6:270:72 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22
epoll_pwait2:441:441 eventfd2:290:19 pipe:22:- pipe2:293:59 dup:32:23 dup2:33:- dup3:292:24 flock:73:32
fsync:74:82 fdatasync:75:83 truncate:76:45 ftruncate:77:46 getdents64:217:61 getcwd:79:17
chdir:80:49 fchdir:81:50 rename:82:- renameat:264:38 renameat2:316:276 mkdir:83:- mkdirat:258:34 rmdir:84:-
unlink:87:- unlinkat:263:35 symlink:88:- symlinkat:266:36 readlink:89:- readlinkat:267:78 chmod:90:-
fchmod:91:52 fchmodat:268:53 umask:95:166 utimensat:280:88 access:21:- faccessat:269:48 faccessat2:439:439
sendfile:40:71 copy_file_range:326:285 mmap:9:222 munmap:11:215 mprotect:10:226 mremap:25:216 madvise:28:233
msync:26:227 mincore:27:232 brk:12:214 membarrier:324:283 rseq:334:293 set_robust_list:273:99
futex:202:98 futex_waitv:449:449 set_tid_address:218:96 exit:60:93 exit_group:231:94
rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigtimedwait:128:137 rt_sigpending:127:136
rt_sigsuspend:130:133 sigaltstack:131:132 restart_syscall:219:128 pause:34:- alarm:37:- setitimer:38:103
getitimer:36:102 timer_create:222:107 timer_settime:223:110 timer_gettime:224:108 timer_delete:226:111
timer_getoverrun:225:109 timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87 getpid:39:172
gettid:186:178 getppid:110:173 getpgrp:111:- getpgid:121:155 getsid:124:156 getuid:102:174 geteuid:107:175
getgid:104:176 getegid:108:177 getresuid:118:148 getresgid:120:150 getgroups:115:158 getrandom:318:278
clock_gettime:228:113 clock_getres:229:114 clock_nanosleep:230:115 nanosleep:35:101 gettimeofday:96:169
time:201:- times:100:153 getrusage:98:165 sysinfo:99:179 uname:63:160 sched_yield:24:124
sched_getaffinity:204:123 sched_getparam:143:121 sched_getscheduler:145:120 sched_get_priority_max:146:125
sched_get_priority_min:147:126 getpriority:140:141 getrlimit:97:163 setrlimit:160:164 getcpu:309:168
getxattr:191:8 lgetxattr:192:9 fgetxattr:193:10 listxattr:194:11 llistxattr:195:12 flistxattr:196:13
socketpair:53:199 recvfrom:45:207 getsockopt:55:209 getsockname:51:204 getpeername:52:205
shutdown:48:210 wait4:61:260 waitid:247:95
"""

# Allowed for some arguments only: `lockdown.py` says which.
SOMETIMES = """
clone:56:220 clone3:435:435 fcntl:72:25 ioctl:16:29 prlimit64:302:261 tgkill:234:131 sendto:44:206 prctl:157:167
"""

# What the parent of judges and candidates needs besides, and its children lose.
PARENTS = """
fork:57:- vfork:58:- clone:56:220 kill:62:129 pidfd_open:434:434 pidfd_send_signal:424:424 recvmsg:47:212
sendmsg:46:211 prctl:157:167 seccomp:317:277 prlimit64:302:261 tgkill:234:131
"""


def numbers(table: str, machine: str) -> dict[str, int]:
    """Return name -> number for `platform.machine()`."""
    column = {"x86_64": 1, "aarch64": 2}[machine]
    rows = [row.split(":") for row in table.split()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
