#pragma once

#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// What kind of mistake an `Error` reports; the text says which values.
enum class ErrorCode : unsigned char {
    shape,         ///< two shapes that must agree do not
    range,         ///< a value lies outside what is allowed
    null_pointer,  ///< a pointer that must point to data is null
    stride,        ///< a stride is smaller than what it steps over
    alignment,     ///< a pointer is not aligned as its type asks
    overflow,      ///< a product of sizes does not fit
    capacity,      ///< memory given by the caller is too small
    missing,       ///< something optional in general is needed here and was not given
    file,          ///< the operating system refused a file operation
    truncated,     ///< a file ends before what it announces
    header,        ///< a file header that cannot be one (size, encoding, structure)
    syntax,        ///< a header that is not well-formed JSON
    duplicate,     ///< a name stands twice where it must be unique
    unknown_type,  ///< a data type this library does not know
    layout,        ///< tensors overlap, leave holes, or disagree with their shape
    not_found,     ///< a tensor that is not in the file
    format,        ///< a file of another version, format or byte order than this one reads, or was asked for
    checksum,      ///< the bytes of a file are not those that were written
    state,         ///< cannot be done now: a phase out of order, a workspace in use, an object that was moved from
    foreign,       ///< in a status only: an exception of a gate, a bank or an observer that is no `Error`
};

/// Thrown for every mistake the library detects. `what()` names the function, what was wrong and the values.
///
/// Like everything here it lives in a namespace named after the instruction set (config.hpp): `catch (const
/// moe::Error&)` does not catch what a file compiled with other flags throws. Where an error may cross from one to the
/// other, catch its base std::runtime_error, or turn it into a code of your own on the side that throws.
class Error : public std::runtime_error {
public:
    Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    [[nodiscard]] ErrorCode code() const noexcept { return code_; }

private:
    ErrorCode code_;
};

}  // namespace moe::inline MOE_ABI

#if !MOE_EXCEPTIONS
extern "C" {

/// Called instead of throwing when built with `-fno-exceptions`. The library only declares it: a program that defines
/// it gets the report, in one that does not the error aborts. It must not return (the program is aborted if it does).
/// `code` is an `ErrorCode`.
__attribute__((weak)) void moe_error_handler(int code, const char* message);

/// The last mistake of this thread, cut to what fits: see moe::last_error(). One for a program, whatever the flags of
/// its files; a debugger shows it by this name, and C code may say `extern _Thread_local char moe_last_error[512];`. It
/// is the only global of the library, and only in programs that have no exceptions to carry the text.
inline constinit thread_local char moe_last_error[512] = {};
}
#endif

namespace moe::inline MOE_ABI {

namespace detail {

inline void append(std::string& text, std::string_view part) { text.append(part); }
// Constrained, because a literal would rather become a bool than a std::string_view.
template <std::same_as<bool> Bool>
void append(std::string& text, Bool value) {
    text.append(value ? "true" : "false");
}
template <std::integral Number>
    requires(!std::same_as<Number, bool>)
void append(std::string& text, Number value) { text.append(std::to_string(value)); }
inline void append(std::string& text, double value) {
    std::array<char, 32> digits{};  // std::to_string would show 1e-20 as 0.000000
    char* const end = digits.data() + digits.size();
    text.append(digits.data(), std::to_chars(digits.data(), end, value, std::chars_format::general, 9).ptr);
}

#if !MOE_EXCEPTIONS
/// Hands the report to whoever can have it, the program's handler or, at SIGABRT, last_error().
[[noreturn]] inline void report(ErrorCode code, const std::string& message) {
    moe_last_error[message.copy(moe_last_error, sizeof moe_last_error - 1)] = '\0';
    // In a variable: compilers warn of a comparison with the address of a function that the same file defines.
    void (*const handler)(int, const char*) = moe_error_handler;
    if (handler != nullptr) {
        handler(static_cast<int>(code), message.c_str());
    }
    std::abort();
}
#endif

}  // namespace detail

#if !MOE_EXCEPTIONS
/// What the last mistake of this thread was, the text that Error::what() has where there are exceptions; empty if there
/// was none. Written before moe_error_handler is called and before the program is aborted, so that a handler of SIGABRT
/// can show it. Only where exceptions are off; nothing is printed.
[[nodiscard]] inline const char* last_error() noexcept { return moe_last_error; }
#endif

/// Reports a mistake: throws `Error`, or calls `moe_error_handler` where exceptions are off. The parts (strings and
/// numbers) are joined into the message. Never returns.
template <class... Parts>
[[noreturn]] MOE_NOINLINE void raise_error(ErrorCode code, Parts... parts) {
    std::string message;
    (detail::append(message, parts), ...);
#if MOE_EXCEPTIONS
    throw Error(code, message);
#else
    detail::report(code, message);
#endif
}

/// Reports a mistake unless `condition` holds. The message is only built when it does not. Parts go by value, so that
/// literals decay and messages of one shape share a function.
template <class... Parts>
constexpr void ensure(bool condition, ErrorCode code, Parts... parts) {
    if (!condition) [[unlikely]] {
        raise_error(code, parts...);
    }
}

}  // namespace moe::inline MOE_ABI
