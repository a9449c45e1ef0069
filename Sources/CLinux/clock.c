#include "clinux.h"
#include <sys/sysinfo.h>
#include <sys/timex.h>

int clinux_clock_is_synchronised(void) {
    struct timex question = {0};
    int state = adjtimex(&question);
    if (state < 0) return -1;
    return state != TIME_ERROR && !(question.status & STA_UNSYNC);
}

int64_t clinux_uptime(void) {
    struct sysinfo answer;
    return sysinfo(&answer) == 0 ? answer.uptime : 0;
}
