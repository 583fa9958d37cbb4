// The handler the program puts in place of the library's. It is told what was wrong: the code, and a text with the
// values.

#include <cstdlib>
#include <cstring>

extern "C" void moe_error_handler(int code, const char* message);

void moe_error_handler(int code, const char* message) {
    constexpr int stride = 3;  // ErrorCode::stride
    const bool names_values =
        std::strstr(message, "stride 2") != nullptr && std::strstr(message, "3 columns") != nullptr;
    std::exit(code == stride && names_values ? 0 : 2);
}
