/* First hits of places in the code of loaded libraries, by breakpoints that each remove themselves.

   A place is armed by writing int3 over the first byte of its instruction, in this process's private copy of the page.
   The first thread that comes there traps; the handler puts the byte back, records the place once, and the thread goes
   on as if nothing had been. From then on the place costs nothing. What the bytes were before is read from a second,
   read-only mapping of the same file, so nothing has to be remembered of what was armed.

   The handler calls nothing and takes no lock, so it may run in any thread, in a forked child and inside of another
   handler. Everything else is called by one thread. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define INT3 0xCC
#define MOST_AREAS 256
/* Places that can be hit between two calls of shakeout_take: a power of two. Its pages are touched as they are used. */
#define RING (1u << 24)

/* One executable segment: address = bias + virtual address in the file. */
struct area {
    uintptr_t bias, start, end;
    const uint8_t *original; /* at bias + virtual address, like the code */
};

static struct area areas[MOST_AREAS];
static int count;
static uint64_t *ring;
static uint64_t written, taken;
static struct sigaction before;
static int passing;

static const struct area *area_at(uintptr_t address)
{
    int known = __atomic_load_n(&count, __ATOMIC_ACQUIRE);
    for (int i = 0; i < known; i++)
        if (address >= areas[i].start && address < areas[i].end)
            return &areas[i];
    return NULL;
}

/* A trap that is none of ours: whoever handled them before handles it, and without one the process ends of it. */
static void pass(int number, siginfo_t *info, void *context, uintptr_t at)
{
    static const char text[] = "shakeout: this breakpoint is none of coverage's\n";
    if (write(2, text, sizeof text - 1) < 0) {
        /* Then nobody reads it. */
    }
    int again = __atomic_exchange_n(&passing, 1, __ATOMIC_SEQ_CST);
    if (!again && (before.sa_flags & SA_SIGINFO) && before.sa_sigaction) {
        before.sa_sigaction(number, info, context);
    } else if (!again && !(before.sa_flags & SA_SIGINFO) && before.sa_handler != SIG_DFL &&
               before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    } else {
        struct sigaction standard;
        memset(&standard, 0, sizeof standard);
        standard.sa_handler = SIG_DFL;
        sigaction(SIGTRAP, &standard, NULL);
        if (info->si_code > 0)
            ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = (greg_t)at; /* there it traps once more */
        else
            syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGTRAP);
    }
    __atomic_store_n(&passing, 0, __ATOMIC_SEQ_CST);
}

static void trapped(int number, siginfo_t *info, void *context)
{
    ucontext_t *state = context;
    uintptr_t at = (uintptr_t)state->uc_mcontext.gregs[REG_RIP] - 1;
    /* The kernel says SI_KERNEL of int3; what somebody sent is none, wherever this thread happens to be. */
    const struct area *area = info->si_code == SI_KERNEL || info->si_code == TRAP_BRKPT ? area_at(at) : NULL;
    uint8_t original = area ? area->original[at - area->bias] : INT3;
    if (original == INT3) {
        pass(number, info, context, at);
        return;
    }
    /* Whoever still finds the breakpoint records it; another thread may have been quicker, and then this one goes on. */
    if (__atomic_exchange_n((uint8_t *)at, original, __ATOMIC_SEQ_CST) == INT3) {
        uint64_t slot = __atomic_fetch_add(&written, 1, __ATOMIC_SEQ_CST) & (RING - 1);
        uint64_t place = (uint64_t)(area - areas + 1) << 40 | (at - area->bias);
        __atomic_store_n(&ring[slot], place, __ATOMIC_RELEASE);
    }
    state->uc_mcontext.gregs[REG_RIP] = (greg_t)at;
}

/* See to it that traps come here. Returns 1 if somebody else had taken them since, 0 if not, or -errno. */
int shakeout_handle(void)
{
    struct sigaction now, ours;
    if (!ring) {
        void *place = mmap(NULL, RING * sizeof *ring, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (place == MAP_FAILED)
            return -errno;
        ring = place;
    }
    if (sigaction(SIGTRAP, NULL, &now))
        return -errno;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == trapped)
        return 0;
    before = now;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = trapped;
    sigemptyset(&ours.sa_mask);
    /* On the alternative stack where a thread has one; and not blocked meanwhile, so that nothing nested can die of it. */
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
    return sigaction(SIGTRAP, &ours, NULL) ? -errno : count > 0;
}

/* A breakpoint in a thread that blocks SIGTRAP ends the process, whatever handler there is; and some libraries block all
   signals for a moment, LLVM around each close of a file. So calls of these two, in every library, come here. */
static int thread_mask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t without;
    if (set && how != SIG_UNBLOCK) {
        without = *set;
        sigdelset(&without, SIGTRAP);
        set = &without;
    }
    return pthread_sigmask(how, set, old);
}

static int process_mask(int how, const sigset_t *set, sigset_t *old)
{
    int error = thread_mask(how, set, old);
    if (error)
        errno = error;
    return error ? -1 : 0;
}

#define MOST_OBJECTS 4096
static uintptr_t met[MOST_OBJECTS];
static int met_count;

static void redirect(void **slot, void *target, const struct dl_phdr_info *info)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)slot & ~(page - 1);
    int sealed = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_GNU_RELRO && (uintptr_t)slot >= begin && (uintptr_t)slot < begin + part->p_memsz)
            sealed = 1;
    }
    if (sealed && mprotect((void *)first, page, PROT_READ | PROT_WRITE))
        return;
    __atomic_store_n(slot, target, __ATOMIC_SEQ_CST);
    if (sealed)
        mprotect((void *)first, page, PROT_READ);
}

static void redirect_all(const struct dl_phdr_info *info, const ElfW(Rela) *rows, size_t bytes,
                         const ElfW(Sym) *symbols, const char *names)
{
    for (size_t i = 0; rows && i < bytes / sizeof *rows; i++) {
        unsigned kind = ELF64_R_TYPE(rows[i].r_info);
        if (kind != R_X86_64_JUMP_SLOT && kind != R_X86_64_GLOB_DAT)
            continue;
        const char *name = names + symbols[ELF64_R_SYM(rows[i].r_info)].st_name;
        void **slot = (void **)(info->dlpi_addr + rows[i].r_offset);
        if (!strcmp(name, "pthread_sigmask"))
            redirect(slot, (void *)thread_mask, info);
        else if (!strcmp(name, "sigprocmask"))
            redirect(slot, (void *)process_mask, info);
    }
}

static int open_object(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    const ElfW(Dyn) *dynamic = NULL;
    uintptr_t here = (uintptr_t)thread_mask;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && here >= begin && here < begin + part->p_memsz)
            return 0; /* our own calls are meant as they are */
        if (part->p_type == PT_DYNAMIC)
            dynamic = (const ElfW(Dyn) *)begin;
    }
    for (int i = 0; i < met_count; i++)
        if (met[i] == (uintptr_t)dynamic)
            return 0;
    if (!dynamic || met_count == MOST_OBJECTS)
        return 0;
    met[met_count++] = (uintptr_t)dynamic;
    uintptr_t symbols = 0, names = 0, jumps = 0, rows = 0;
    size_t jump_bytes = 0, row_bytes = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        uintptr_t value = dynamic->d_un.d_ptr, address = value < info->dlpi_addr ? value + info->dlpi_addr : value;
        switch (dynamic->d_tag) {
        case DT_SYMTAB: symbols = address; break;
        case DT_STRTAB: names = address; break;
        case DT_JMPREL: jumps = address; break;
        case DT_PLTRELSZ: jump_bytes = value; break;
        case DT_RELA: rows = address; break;
        case DT_RELASZ: row_bytes = value; break;
        }
    }
    if (symbols && names) {
        redirect_all(info, (const ElfW(Rela) *)jumps, jump_bytes, (const ElfW(Sym) *)symbols, (const char *)names);
        redirect_all(info, (const ElfW(Rela) *)rows, row_bytes, (const ElfW(Sym) *)symbols, (const char *)names);
    }
    return 0;
}

/* See to it that no library that is loaded by now blocks SIGTRAP. */
void shakeout_keep_open(void)
{
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGTRAP);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    dl_iterate_phdr(open_object, NULL);
}

/* Make an executable segment one whose places can be armed.

   bias: of the loaded library. start, length: virtual address and bytes of the segment. file, offset: where it was
   loaded from. Returns its number, or -errno; -ESTALE if the file is not what is in memory. */
int shakeout_add(uintptr_t bias, uintptr_t start, size_t length, const char *file, size_t offset)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), slack = (bias + start) % page;
    if (count == MOST_AREAS)
        return -ENOSPC;
    if (slack > offset)
        return -EINVAL;
    int descriptor = open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    uint8_t *copy = mmap(NULL, length + slack, PROT_READ, MAP_PRIVATE, descriptor, (off_t)(offset - slack));
    int error = errno;
    close(descriptor);
    if (copy == MAP_FAILED)
        return -error;
    uint8_t *code = (uint8_t *)(bias + start);
    if (memcmp(copy + slack, code, length)) {
        munmap(copy, length + slack);
        return -ESTALE;
    }
    /* Comparing has brought in every page; they can be had again, and need not count as this process's memory. */
    madvise(copy, length + slack, MADV_DONTNEED);
    if (mprotect(code - slack, length + slack, PROT_READ | PROT_WRITE | PROT_EXEC)) {
        error = errno;
        munmap(copy, length + slack);
        return -error;
    }
    struct area *area = &areas[count];
    area->bias = bias;
    area->start = bias + start;
    area->end = bias + start + length;
    area->original = copy + slack - start;
    __atomic_store_n(&count, count + 1, __ATOMIC_RELEASE);
    return count - 1;
}

static uint8_t *place_in(const struct area *area, uint32_t place)
{
    uintptr_t at = area->bias + place;
    return at >= area->start && at < area->end && area->original[place] != INT3 ? (uint8_t *)at : NULL;
}

/* Arm places, given by virtual address; each must be the first byte of an instruction. Returns how many there are. */
size_t shakeout_arm(int number, const uint32_t *places, size_t length)
{
    size_t armed = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t *at = place_in(&areas[number], places[i]);
        if (at) {
            __atomic_store_n(at, INT3, __ATOMIC_SEQ_CST);
            armed++;
        }
    }
    return armed;
}

/* Disarm places, which are not recorded. */
void shakeout_disarm(int number, const uint32_t *places, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint8_t *at = place_in(&areas[number], places[i]);
        if (at && *at == INT3)
            __atomic_store_n(at, areas[number].original[places[i]], __ATOMIC_SEQ_CST);
    }
}

/* Take at most so many recorded places, oldest first, each as (area + 1) << 40 | virtual address. Returns how many. */
size_t shakeout_take(uint64_t *places, size_t most)
{
    size_t found = 0;
    while (ring && found < most && taken != __atomic_load_n(&written, __ATOMIC_ACQUIRE)) {
        uint64_t place = __atomic_exchange_n(&ring[taken & (RING - 1)], 0, __ATOMIC_ACQUIRE);
        if (!place)
            break; /* a thread is just about to write it */
        places[found++] = place;
        taken++;
    }
    return found;
}

/* The bytes of a segment as they were, at this plus the virtual address. */
const uint8_t *shakeout_original(int number) { return areas[number].original; }

static int first(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    *(uint64_t *)data = info->dlpi_adds;
    return 1;
}

/* How many libraries were loaded since the process began: with it the list of them changes. */
uint64_t shakeout_loads(void)
{
    uint64_t loads = 0;
    dl_iterate_phdr(first, &loads);
    return loads;
}
