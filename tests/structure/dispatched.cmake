# cmake -D NM= -D FOLDER= -P dispatched.cmake
# Of each object that moe_add_dispatched made in FOLDER, also for processors that are not at hand, nothing is seen
# outside but the functions that MOE_DISPATCHED declares, and no code runs by itself.
file(GLOB objects ${FOLDER}/*.o)
list(FILTER objects EXCLUDE REGEX "_joined\\.o$")
list(LENGTH objects number)
if(number LESS 2)
    message(FATAL_ERROR "${FOLDER} has ${number} levels")
endif()
foreach(object IN LISTS objects)
    get_filename_component(level ${object} NAME_WE)
    execute_process(COMMAND ${NM} --defined-only --extern-only ${object} OUTPUT_VARIABLE symbols RESULT_VARIABLE status)
    string(REGEX REPLACE "\n$" "" symbols "${symbols}")
    string(REPLACE "\n" ";" symbols "${symbols}")
    list(LENGTH symbols number)
    list(FILTER symbols EXCLUDE REGEX " [TWV] _ZN[0-9a-z]*moe_level_${level}[0-9]+(report|count)")
    if(NOT status EQUAL 0 OR NOT number EQUAL 4 OR symbols)  # two functions, two ways in
        message(FATAL_ERROR "${object}: ${number} symbols are seen, of which these should not be: ${symbols}")
    endif()
    execute_process(COMMAND ${NM} ${object} OUTPUT_VARIABLE symbols)
    if(NOT symbols MATCHES "compiled_for")
        message(FATAL_ERROR "${object} was to have an inline function of its own")
    endif()
endforeach()
