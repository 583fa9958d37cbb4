#pragma once

/// Functions compiled for several instruction sets, of which a program chooses one when it runs. It is the other half
/// of `moe_add_dispatched` of CMake, which compiles their sources once for each Level and keeps the copies apart.
///
/// A header of yours declares what each level offers: one function is enough, as it may return an interface or a table
/// of others.
///
///     #include <moe/dispatched.hpp>
///     MOE_DISPATCHED(run, void(const Job& job, float* y));
///
/// A source given to moe_add_dispatched defines it, for whichever level it is being compiled:
///
///     void MOE_LEVEL::run(const Job& job, float* y) { ... }
///
/// Anywhere else `run` is a `moe::Dispatched`: `run(job, y)` calls the best level this machine has, `run.at("avx2")` is
/// a pointer to another. It is cheap to include: none of the library's kernels come with it.
///
/// Compile those other files without flags for newer processors than the least that shall run the program. Types in the
/// signature are yours or those of the standard library; those of moe are other types in each level (config.hpp). An
/// error in a level arrives as what it derives from, std::runtime_error.

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "config.hpp"
#include "core/error.hpp"
#include "kernels/arch/processor.hpp"

namespace moe::inline MOE_ABI {

/// A function of type F in one level.
template <class F>
struct LevelEntry {
    Level level;
    /// Makes the level ready at its first call: constructors of static objects in its sources run only now, since those
    /// of other levels might not run on this processor. The function.
    F* (*enter)();
};

/// A function of type F in N levels, made by MOE_DISPATCHED.
template <class F, std::size_t N>
class Dispatched {
public:
    constexpr Dispatched(const char* name, std::array<LevelEntry<F>, N> levels) noexcept
        : name_(name), levels_(levels) {}

    /// The levels it was compiled for, ascending.
    [[nodiscard]] constexpr std::array<Level, N> levels() const noexcept {
        std::array<Level, N> result{};
        for (std::size_t i = 0; i < N; ++i) {
            result[i] = levels_[i].level;
        }
        return result;
    }

    /// The highest of them that this machine runs. Error (missing) where it runs none.
    [[nodiscard]] Level best() const {
        for (std::size_t i = N; i > 0; --i) {
            if (runs_here(levels_[i - 1].level)) {
                return levels_[i - 1].level;
            }
        }
        raise_error(ErrorCode::missing, name_, ": this machine runs none of its levels (", names(), ")");
    }

    /// The function in `level`. Error (missing) where it was not compiled for it, or this machine does not run it.
    [[nodiscard]] F* at(Level level) const {
        for (const LevelEntry<F>& entry : levels_) {
            if (entry.level == level) {
                ensure(runs_here(level), ErrorCode::missing, name_, ": this machine cannot run the level ",
                       level_name(level), ", only levels up to ", level_name(machine_level()));
                return entry.enter();
            }
        }
        raise_error(ErrorCode::missing, name_, ": it is not compiled for the level ", level_name(level), ", only for ",
                    names());
    }

    /// The same by name, as from an option of the program or its environment; empty: the best. Error (missing) also
    /// where there is no such level.
    [[nodiscard]] F* at(std::string_view level) const { return at(level_called(level)); }

    /// Which level a name means here: see at().
    [[nodiscard]] Level level_called(std::string_view level) const {
        if (level.empty()) {
            return best();
        }
        for (std::size_t i = 0; i < n_levels; ++i) {
            if (level_name(static_cast<Level>(i)) == level) {
                return static_cast<Level>(i);
            }
        }
        raise_error(ErrorCode::missing, name_, ": there is no level \"", level, "\"; it is compiled for ", names());
    }

    /// Calls the best level. Choosing costs some nanoseconds; keep what at() returns where that is much.
    template <class... Arguments>
    decltype(auto) operator()(Arguments&&... arguments) const {
        return at(best())(std::forward<Arguments>(arguments)...);
    }

private:
    [[nodiscard]] std::string names() const {
        std::string result;
        for (const LevelEntry<F>& entry : levels_) {
            result.append(result.empty() ? "" : ", ").append(level_name(entry.level));
        }
        return result;
    }

    const char* name_;
    std::array<LevelEntry<F>, N> levels_;
};

namespace detail {

template <class F, class... Entries>
[[nodiscard]] constexpr auto make_dispatched(const char* name, Entries... entries) noexcept {
    return Dispatched<F, sizeof...(Entries)>(name, {LevelEntry<F>(entries)...});
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI

#define MOE_LEVEL_NAMESPACE_(level) moe_level_##level
#define MOE_LEVEL_NAMESPACE(level) MOE_LEVEL_NAMESPACE_(level)
#define MOE_DECLARE_LEVEL(level, name, ...)                                                                            \
    namespace MOE_LEVEL_NAMESPACE(level) {                                                                             \
        std::type_identity_t<__VA_ARGS__> name;                                                                        \
        std::add_pointer_t<__VA_ARGS__> name##_enter();                                                                \
    }

#if defined(MOE_DISPATCHED_LEVEL)

// A source being compiled for one level. The constructors of its static objects are not where the system looks for
// those of a program, but between these two symbols, which the linker script of moe_add_dispatched makes, local to the
// level.
extern "C" {
extern void (*const moe_initialisers_begin[])(int, char**, char**);
extern void (*const moe_initialisers_end[])(int, char**, char**);
}

namespace moe::inline MOE_ABI::detail {

inline void initialise_level() {
    static const bool done = [] {
        for (auto* each = moe_initialisers_begin; each != moe_initialisers_end; ++each) {
            (*each)(0, nullptr, nullptr);
        }
        return true;
    }();
    static_cast<void>(done);
}

}  // namespace moe::inline MOE_ABI::detail

#define MOE_LEVEL MOE_LEVEL_NAMESPACE(MOE_DISPATCHED_LEVEL)
#define MOE_DISPATCHED(name, ...)                                                                                      \
    MOE_DECLARE_LEVEL(MOE_DISPATCHED_LEVEL, name, __VA_ARGS__)                                                         \
    namespace MOE_LEVEL {                                                                                              \
    __attribute__((used)) inline std::add_pointer_t<__VA_ARGS__> name##_enter() {                                      \
        ::moe::detail::initialise_level();                                                                             \
        return &name;                                                                                                  \
    }                                                                                                                  \
    }                                                                                                                  \
    static_assert(true, "a semicolon follows")

#else

#if defined(MOE_DISPATCHED_SSE2)
#define MOE_DECLARE_SSE2_(name, ...) MOE_DECLARE_LEVEL(sse2, name, __VA_ARGS__)
#define MOE_ENTRY_SSE2_(name, ...) MOE_LEVEL_ENTRY(sse2, name, __VA_ARGS__)
#else
#define MOE_DECLARE_SSE2_(name, ...)
#define MOE_ENTRY_SSE2_(name, ...)
#endif
#if defined(MOE_DISPATCHED_AVX2)
#define MOE_DECLARE_AVX2_(name, ...) MOE_DECLARE_LEVEL(avx2, name, __VA_ARGS__)
#define MOE_ENTRY_AVX2_(name, ...) MOE_LEVEL_ENTRY(avx2, name, __VA_ARGS__)
#else
#define MOE_DECLARE_AVX2_(name, ...)
#define MOE_ENTRY_AVX2_(name, ...)
#endif
#if defined(MOE_DISPATCHED_AVX512)
#define MOE_DECLARE_AVX512_(name, ...) MOE_DECLARE_LEVEL(avx512, name, __VA_ARGS__)
#define MOE_ENTRY_AVX512_(name, ...) MOE_LEVEL_ENTRY(avx512, name, __VA_ARGS__)
#else
#define MOE_DECLARE_AVX512_(name, ...)
#define MOE_ENTRY_AVX512_(name, ...)
#endif
#if defined(MOE_DISPATCHED_AMX)
#define MOE_DECLARE_AMX_(name, ...) MOE_DECLARE_LEVEL(amx, name, __VA_ARGS__)
#define MOE_ENTRY_AMX_(name, ...) MOE_LEVEL_ENTRY(amx, name, __VA_ARGS__)
#else
#define MOE_DECLARE_AMX_(name, ...)
#define MOE_ENTRY_AMX_(name, ...)
#endif

// without levels a source is compiled as any other
#if !defined(MOE_DISPATCHED_SSE2) && !defined(MOE_DISPATCHED_AVX2) && !defined(MOE_DISPATCHED_AVX512) &&               \
    !defined(MOE_DISPATCHED_AMX)
#define MOE_LEVEL moe_level_generic
#define MOE_DECLARE_GENERIC_(name, ...)                                                                                \
    MOE_DECLARE_LEVEL(generic, name, __VA_ARGS__)                                                                      \
    namespace moe_level_generic {                                                                                      \
    inline std::add_pointer_t<__VA_ARGS__> name##_enter() { return &name; }                                            \
    }
#define MOE_ENTRY_GENERIC_(name, ...) MOE_LEVEL_ENTRY(generic, name, __VA_ARGS__)
#else
#define MOE_DECLARE_GENERIC_(name, ...)
#define MOE_ENTRY_GENERIC_(name, ...)
#endif

#define MOE_LEVEL_ENTRY(level, name, ...)                                                                              \
    , ::moe::LevelEntry<__VA_ARGS__> { ::moe::Level::level, &MOE_LEVEL_NAMESPACE(level)::name##_enter }

#define MOE_DISPATCHED(name, ...)                                                                                      \
    MOE_DECLARE_GENERIC_(name, __VA_ARGS__)                                                                            \
    MOE_DECLARE_SSE2_(name, __VA_ARGS__)                                                                               \
    MOE_DECLARE_AVX2_(name, __VA_ARGS__)                                                                               \
    MOE_DECLARE_AVX512_(name, __VA_ARGS__)                                                                             \
    MOE_DECLARE_AMX_(name, __VA_ARGS__)                                                                                \
    inline constexpr auto name = ::moe::detail::make_dispatched<__VA_ARGS__>(                                          \
        #name MOE_ENTRY_GENERIC_(name, __VA_ARGS__) MOE_ENTRY_SSE2_(name, __VA_ARGS__)                                 \
            MOE_ENTRY_AVX2_(name, __VA_ARGS__) MOE_ENTRY_AVX512_(name, __VA_ARGS__) MOE_ENTRY_AMX_(name, __VA_ARGS__))

#endif
