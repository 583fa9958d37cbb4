// The handler of a program, defined in a file that includes the library, which must not bring warnings; and a message
// that is longer than what the library keeps of one.

#include <cstdlib>
#include <cstring>
#include <string>

#include <moe/moe.hpp>

extern "C" void moe_error_handler(int code, const char* message);

void moe_error_handler(int code, const char* message) {
    const std::string kept = moe::last_error();
    const bool cut = kept.size() == sizeof moe_last_error - 1 && std::string(message).starts_with(kept);
    std::exit(code == static_cast<int>(moe::ErrorCode::missing) && std::strlen(message) == 1000 && cut ? 0 : 2);
}

int main() { moe::raise_error(moe::ErrorCode::missing, std::string(1000, 'x')); }
